"""The server around the kernel: durability, what its log would hold, PUBLIC's rights."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.rule import Finding, Rule, Setting, Unchecked, query_rule

DURABLE = query_rule(
    "durability", "error", "What was committed survives a crash",
    """select * from (
    select name as object, format('it is %s: a crash can lose or break what was committed',
        setting),
      format('alter system set %s = on; select pg_reload_conf()', name), 'superuser'
    from pg_settings where name in ('fsync', 'full_page_writes', 'synchronous_commit')
      and setting = 'off'
      and source not in ('session', 'client', 'database', 'user', 'database user')
    union all
    select format('synchronous_commit of %s', concat_ws(' in ', 'role ' || r.rolname,
        'database ' || d.datname)),
      'it is off: a crash can lose what was committed',
      format('alter %s reset synchronous_commit', case
        when r.rolname is null then format('database %I', d.datname)
        when d.datname is null then format('role %I', r.rolname)
        else format('role %I in database %I', r.rolname, d.datname) end), 'superuser'
    from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole
    left join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) c
    where c = 'synchronous_commit=off' and (d.datname is null or d.datname = current_database())
    ) found order by 1""",
)  # fmt: skip
LOGGED = query_rule(
    "statements-logged", "warning", "The server's log does not fill with what tenants say",
    """select * from (
    select name as object, format('it is %s: messages, keys and arguments of calls go to the log',
        setting), format('alter system set %s = none; select pg_reload_conf()', name), 'superuser'
    from pg_settings where name = 'log_statement' and setting in ('mod', 'all')
    union all
    select s.name, format('it is %s ms: slow statements go to the log with the arguments of calls',
        s.setting), 'alter system set log_parameter_max_length = 0; select pg_reload_conf()',
      'superuser'
    from pg_settings s join pg_settings p on p.name = 'log_parameter_max_length'
    where s.name in ('log_min_duration_statement', 'log_min_duration_sample')
      and s.setting <> '-1' and p.setting <> '0') found order by 1""",
)  # fmt: skip
PUBLIC_TEMP = query_rule(
    "public-temp", "warning", "PUBLIC may not create temporary tables",
    """select 'database ' || quote_ident(datname),
    'PUBLIC may create temporary tables: SQL skills leave them behind until the cleanup',
    format('revoke temporary on database %I from public', datname), pg_get_userbyid(datdba)
    from pg_database where datname = current_database() and exists (
      select from aclexplode(coalesce(datacl, acldefault('d', datdba))) a
      where a.grantee = 0 and a.privilege_type = 'TEMPORARY')""",
)  # fmt: skip
PUBLIC_CREATE = query_rule(
    "public-create", "warning", "PUBLIC may create nothing in the database or its schemas",
    """select * from (
    select 'schema ' || quote_ident(nspname) as object,
      'PUBLIC may create objects in it, and so may SQL skills',
      format('revoke create on schema %I from public', nspname), case
        when nspowner = 'pg_database_owner'::regrole
        then (select pg_get_userbyid(datdba) from pg_database where datname = current_database())
        else pg_get_userbyid(nspowner) end
    from pg_namespace where nspname !~ '^(pg_|aos_|information_schema)' and exists (
      select from aclexplode(nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')
    union all
    select 'database ' || quote_ident(datname), 'PUBLIC may create schemas in it',
      format('revoke create on database %I from public', datname), pg_get_userbyid(datdba)
    from pg_database where datname = current_database() and exists (
      select from aclexplode(datacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')
    ) found order by 1""",
)  # fmt: skip
_BY_WORDS = """select count(*) from aos_rag.collection c
    where c.embedding_model is not null and aos_rag.vector_schema() is null"""


def _vector(setting: Setting) -> Iterable[Finding]:
    if "aos_admin" not in setting.own_roles:
        raise Unchecked("only a member of aos_admin sees the collections of all tenants")
    for (count,) in setting.rows(_BY_WORDS):
        if int(count):
            about = f"{count} of the collections have embeddings, and full text alone is searched"
            if setting.files.data is not None:  # the embedded server
                yield Finding("extension vector", about, "aosctl db upgrade", is_command=True)
            else:
                yield Finding("extension vector", about, "create extension vector", "superuser")


RULES = (
    DURABLE,
    LOGGED,
    PUBLIC_TEMP,
    PUBLIC_CREATE,
    Rule("vector-missing", "warning", "Collections with embeddings are searched by them", _vector),
)
