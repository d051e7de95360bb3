alter table orders add column total float not null default 0;
create index orders_state on orders (state);
