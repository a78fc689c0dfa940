/**
 * What clients ask by themselves, as they sent it: recorded from the clients named, except for
 * DBeaver, whose questions are those of its logs in public reports.
 */

/** A question, with the answer that the client can go on with. */
export interface ClientQuestion {
  readonly client: string;
  readonly text: string;
  readonly parameters?: readonly string[];
  /** Names of the first columns. */
  readonly columns: readonly string[];
  /** The beginning of each row. */
  readonly rows: readonly (readonly (string | number | boolean | undefined)[])[];
}

const relations = (extra: string, rest: string): string => `SELECT n.nspname as "Schema",
  c.relname as "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
  WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' END as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"${extra}
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
${rest}
ORDER BY 1,2;`;

export const clientQuestions: readonly ClientQuestion[] = [
  {
    client: 'postgres 3.4 (Node.js)',
    text: `
        select b.oid, b.typarray
        from pg_catalog.pg_type a
        left join pg_catalog.pg_type b on b.oid = a.typelem
        where a.typcategory = 'A'
        group by b.oid, b.typarray
        order by b.oid
      `,
    columns: ['oid', 'typarray'],
    rows: [],
  },
  {
    client: 'psqlodbc 13.02',
    text: "select oid, typbasetype from pg_type where typname = 'lo'",
    columns: ['oid', 'typbasetype'],
    rows: [],
  },
  {
    client: 'SQLAlchemy 1.4',
    text: 'select pg_catalog.version()',
    columns: ['version'],
    rows: [['PostgreSQL 13.0 (pgsso 1.2.3)']],
  },
  {
    client: 'SQLAlchemy 1.4',
    text: 'select current_schema()',
    columns: ['current_schema'],
    rows: [['public']],
  },
  {
    client: 'SQLAlchemy 1.4 with psycopg2 2.9',
    text: `SELECT t.oid, typarray
FROM pg_type t JOIN pg_namespace ns
    ON typnamespace = ns.oid
WHERE typname = 'hstore';
`,
    columns: ['oid', 'typarray'],
    rows: [],
  },
  ...['$1::regtype', 'to_regtype($1)'].map((type) => ({
    client: 'psycopg 3',
    text: `SELECT
    typname AS name, oid, typarray AS array_oid,
    oid::regtype::text AS regtype, typdelim AS delimiter
FROM pg_type t
WHERE t.oid = ${type}
ORDER BY t.oid
`,
    parameters: ['hstore'],
    columns: ['name', 'oid', 'array_oid', 'regtype', 'delimiter'],
    rows: [],
  })),
  ...['114', '3802', '16385'].map((type) => ({
    client: 'SQLAlchemy 1.4 with asyncpg 0.27',
    text: `SELECT
    t.oid,
    t.typelem     AS elemtype,
    t.typtype     AS kind
FROM
    pg_catalog.pg_type AS t
WHERE
    t.oid = $1
`,
    parameters: [type],
    columns: ['oid', 'elemtype', 'kind'],
    rows: type === '16385' ? [] : [[Number(type), 0, 'b']],
  })),
  {
    client: 'psql 15: \\d',
    text: relations('', "WHERE c.relkind IN ('r','p','v','m','S','f','')"),
    columns: ['Schema', 'Name', 'Type', 'Owner'],
    rows: [],
  },
  {
    client: 'psql 15: \\dt+ x',
    text: relations(
      `,
  CASE c.relpersistence WHEN 'p' THEN 'permanent' END as "Persistence",
  am.amname as "Access method"`,
      `     LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relname OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default`,
    ),
    columns: ['Schema', 'Name', 'Type', 'Owner'],
    rows: [],
  },
  {
    client: 'psql 15: \\d foo',
    text: `SELECT c.oid,
  n.nspname,
  c.relname
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) '^(foo)$' COLLATE pg_catalog.default
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 2, 3;`,
    columns: ['oid', 'nspname', 'relname'],
    rows: [],
  },
  {
    client: 'psql 15: \\dn',
    text: `SELECT n.nspname AS "Name",
  pg_catalog.pg_get_userbyid(n.nspowner) AS "Owner"
FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1;`,
    columns: ['Name', 'Owner'],
    rows: [['public', undefined]],
  },
  {
    client: 'psql 15: \\l',
    text: `SELECT d.datname as "Name",
       pg_catalog.pg_get_userbyid(d.datdba) as "Owner",
       pg_catalog.pg_encoding_to_char(d.encoding) as "Encoding",
       d.datcollate as "Collate",
       d.datctype as "Ctype",
       NULL as "ICU Locale",
       'libc' AS "Locale Provider",
       pg_catalog.array_to_string(d.datacl, E'\\n') AS "Access privileges"
FROM pg_catalog.pg_database d
ORDER BY 1;`,
    columns: ['Name', 'Owner', 'Encoding'],
    rows: [['pgsso', undefined, 'UTF8']],
  },
  {
    client: 'pgcli 3.5',
    text: '\n        SELECT * FROM unnest(current_schemas(true))',
    columns: ['unnest'],
    rows: [['public']],
  },
  {
    client: 'pgcli 3.5',
    text: `
        SELECT  nspname
        FROM    pg_catalog.pg_namespace
        ORDER BY 1 `,
    columns: ['nspname'],
    rows: [['public']],
  },
  {
    client: 'pgcli 3.5',
    text: `
        SELECT  n.nspname schema_name,
                c.relname table_name
        FROM    pg_catalog.pg_class c
                LEFT JOIN pg_catalog.pg_namespace n
                    ON n.oid = c.relnamespace
        WHERE   c.relkind = ANY($1)
        ORDER BY 1,2;`,
    parameters: ['{r,p,f}'],
    columns: ['schema_name', 'table_name'],
    rows: [],
  },
  {
    client: 'pgcli 3.5',
    text: `
                SELECT  nsp.nspname schema_name,
                        cls.relname table_name,
                        att.attname column_name,
                        att.atttypid::regtype::text type_name,
                        att.atthasdef AS has_default
                FROM    pg_catalog.pg_attribute att
                        INNER JOIN pg_catalog.pg_class cls
                            ON att.attrelid = cls.oid
                WHERE   cls.relkind = ANY($1)
                        AND NOT att.attisdropped
                        AND att.attnum  > 0
                ORDER BY 1, 2, att.attnum`,
    parameters: ['{v,m}'],
    columns: ['schema_name', 'table_name', 'column_name'],
    rows: [],
  },
  {
    client: 'pgcli 3.5',
    text: `
                SELECT s_p.nspname AS parentschema,
                       t_p.relname AS parenttable,
                       s_c.nspname AS childschema
                FROM pg_catalog.pg_constraint fk
                WHERE fk.contype = 'f'
                `,
    columns: ['parentschema', 'parenttable'],
    rows: [],
  },
  {
    client: 'pgcli 3.5',
    text: `
                SELECT n.nspname schema_name,
                        p.proname func_name,
                        p.proargnames
                FROM pg_catalog.pg_proc p
                        INNER JOIN pg_catalog.pg_namespace n
                            ON n.oid = p.pronamespace
                WHERE p.prorettype::regtype != 'trigger'::regtype
                ORDER BY 1, 2
                `,
    columns: ['schema_name', 'func_name'],
    rows: [],
  },
  {
    client: 'pgcli 3.5',
    text: `
                    SELECT n.nspname schema_name,
                      pg_catalog.format_type(t.oid, NULL) type_name
                    FROM pg_catalog.pg_type t
                         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                    ORDER BY 1, 2;
                `,
    columns: ['schema_name', 'type_name'],
    rows: [],
  },
  {
    client: 'pgcli 3.5',
    text: `
        SELECT d.datname
        FROM pg_catalog.pg_database d
        ORDER BY 1`,
    columns: ['datname'],
    rows: [['pgsso']],
  },
  ...['1186', '16385'].map((type) => ({
    client: 'pgjdbc 42.5',
    text:
      'SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname ' +
      'FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid ' +
      'WHERE t.oid = $1',
    parameters: [type],
    columns: ['?column?', 'nspname', 'typname'],
    rows: type === '1186' ? [[true, 'pg_catalog', 'interval']] : [],
  })),
  {
    client: 'pgjdbc 42.5',
    text:
      "SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, " +
      'pg_type.oid   FROM pg_catalog.pg_type   LEFT JOIN (select ns.oid as nspoid, ns.nspname, ' +
      'r.r           from pg_namespace as ns           join ( select s.r, ' +
      '(current_schemas(false))[s.r] as nspname                    from generate_series(1, ' +
      'array_upper(current_schemas(false), 1)) as s(r) ) as r          using ( nspname )        ' +
      ') as sp     ON sp.nspoid = typnamespace  WHERE pg_type.oid = $1  ' +
      'ORDER BY sp.r, pg_type.oid DESC',
    parameters: ['1186'],
    columns: ['is_array', 'typtype', 'typname', 'oid'],
    rows: [[false, 'b', 'interval', 1186]],
  },
  {
    client: 'pgjdbc 42.5: DatabaseMetaData.getSQLKeywords',
    text:
      "select string_agg(word, ',') from pg_catalog.pg_get_keywords() " +
      "where word <> ALL ('{a,abs,absolute,action,ada}'::text[])",
    columns: ['string_agg'],
    rows: [['']],
  },
  {
    client: 'DBeaver',
    text: 'SELECT current_schema(),session_user',
    columns: ['current_schema', 'session_user'],
    rows: [['public', 'alice']],
  },
  {
    client: 'DBeaver',
    text: `SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0
AND d.classoid='pg_namespace'::regclass
 ORDER BY nspname`,
    columns: ['oid', 'nspname'],
    rows: [[2200, 'public']],
  },
  ...[
    'datname=$1',
    '1 = 1 AND datallowconn AND NOT datistemplate OR db.datname =$1 ORDER BY 1',
  ].map((where) => ({
    client: 'DBeaver',
    text: `SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE ${where}`,
    parameters: ['pgsso'],
    columns: ['oid', 'datname', 'encoding', 'datistemplate', 'datallowconn'],
    rows: [[1, 'pgsso', 6, false, true]],
  })),
  {
    client: 'DBeaver',
    text: 'select * from pg_catalog.pg_settings where name=$1',
    parameters: ['standard_conforming_strings'],
    columns: ['name', 'setting'],
    rows: [['standard_conforming_strings', 'on']],
  },
  {
    client: 'DBeaver',
    text: `SELECT t.oid,t.*,c.relkind,
  format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name
FROM pg_catalog.pg_type t
LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid
WHERE t.typname IS NOT NULL`,
    columns: ['oid', 'typname'],
    rows: [],
  },
  {
    client: 'DBeaver',
    text: 'SELECT * FROM pg_catalog.pg_enum WHERE 1<>1 LIMIT 1',
    columns: ['?column?'],
    rows: [],
  },
];
