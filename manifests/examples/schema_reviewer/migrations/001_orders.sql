create table orders (
    order_id    bigint primary key,
    customer_id bigint references customer,
    state       text,
    created_at  timestamp default now()
);
