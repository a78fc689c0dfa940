/**
 * Questions about the catalog that drivers and tools ask when they connect, and those behind psql's
 * \d, \dn and \l, with true answers: the console has one database, one schema, and no relation or
 * type of its own. They are recognized by their text. Any other question is refused.
 */
import { CONSOLE_DATABASE } from '../../session/console-access.ts';
import type { ParsedStatement, StatementReader } from '../language/reader.ts';
import { type Cell, type Column, textColumns } from '../results.ts';
import type { ConsoleSession } from '../session.ts';

/** One question, with its answer. */
interface Question {
  /** In lower case and with single spaces; `…` stands for any text. */
  readonly text: string;
  readonly columns: readonly Column[];
  /** Default: there are none. */
  rows?(parameters: readonly string[], session: ConsoleSession): readonly (readonly Cell[])[];
  readonly parameterType?: number;
}

/** What current_schema() says, too. Its OID is PostgreSQL's (pg_namespace.dat). */
const SCHEMA = { oid: 2200, name: 'public' } as const;

/** Any that no user of PostgreSQL's has. */
const DATABASE_OID = 1;

const OID_TYPE = 26;

const INTERVAL = { oid: 1186, name: 'interval' } as const;

/** The types json and jsonb (pg_type.dat). */
const JSON_TYPES = ['114', '3802'];

const questions: readonly Question[] = [
  // postgres (Node.js): the array types.
  {
    text:
      'select b.oid, b.typarray from pg_catalog.pg_type a left join pg_catalog.pg_type b ' +
      "on b.oid = a.typelem where a.typcategory = 'a' group by b.oid, b.typarray order by b.oid",
    columns: [oid('oid'), oid('typarray')],
  },
  // psqlodbc: the type of large objects.
  {
    text: "select oid, typbasetype from pg_type where typname = 'lo'",
    columns: [oid('oid'), oid('typbasetype')],
  },
  // SQLAlchemy with psycopg2, and psycopg itself: the types of hstore and of other extensions.
  {
    text:
      'select t.oid, typarray from pg_type t join pg_namespace ns on typnamespace = ns.oid ' +
      "where typname = 'hstore'",
    columns: [oid('oid'), oid('typarray')],
  },
  {
    text:
      'select typname as name, oid, typarray as array_oid, oid::regtype::text as regtype, ' +
      'typdelim as delimiter from pg_type t where t.oid = …',
    columns: [
      ...textColumns('name'),
      oid('oid'),
      oid('array_oid'),
      ...textColumns('regtype', 'delimiter'),
    ],
  },
  // SQLAlchemy with asyncpg: whether json and jsonb are plain types.
  {
    text:
      'select t.oid, t.typelem as elemtype, t.typtype as kind from pg_catalog.pg_type as t ' +
      'where t.oid = $1',
    columns: [oid('oid'), oid('elemtype'), { name: 'kind', type: 'char' }],
    rows: ([type = '']) => (JSON_TYPES.includes(type) ? [[Number(type), 0, 'b']] : []),
    parameterType: OID_TYPE,
  },
  // psql and pgcli: \d and its like, \d name, \dn, \l.
  {
    text:
      'select n.nspname as "schema", c.relname as "name", case c.relkind … as "type", ' +
      'pg_catalog.pg_get_userbyid(c.relowner) as "owner"… from pg_catalog.pg_class c …',
    columns: textColumns('Schema', 'Name', 'Type', 'Owner'),
  },
  {
    text:
      'select c.oid, n.nspname, c.relname from pg_catalog.pg_class c left join ' +
      'pg_catalog.pg_namespace n on n.oid = c.relnamespace where …',
    columns: [oid('oid'), ...textColumns('nspname', 'relname')],
  },
  {
    text:
      'select n.nspname as "name", pg_catalog.pg_get_userbyid(n.nspowner) as "owner"… ' +
      "from pg_catalog.pg_namespace n where n.nspname !~ '^pg_' and … order by 1",
    columns: textColumns('Name', 'Owner'),
    rows: () => [[SCHEMA.name, undefined]],
  },
  {
    text:
      'select d.datname as "name", pg_catalog.pg_get_userbyid(d.datdba) as "owner", ' +
      'pg_catalog.pg_encoding_to_char(d.encoding) as "encoding", … ' +
      'from pg_catalog.pg_database d order by 1',
    columns: textColumns('Name', 'Owner', 'Encoding'),
    rows: () => [[CONSOLE_DATABASE, undefined, 'UTF8']],
  },
  // pgcli: what it completes.
  {
    text: 'select * from unnest(current_schemas(true))',
    columns: textColumns('unnest'),
    rows: () => [[SCHEMA.name]],
  },
  {
    text: 'select nspname from pg_catalog.pg_namespace order by 1',
    columns: textColumns('nspname'),
    rows: () => [[SCHEMA.name]],
  },
  {
    text: 'select n.nspname schema_name, c.relname table_name from pg_catalog.pg_class c …',
    columns: textColumns('schema_name', 'table_name'),
  },
  {
    text: 'select nsp.nspname schema_name, cls.relname table_name, att.attname column_name, …',
    columns: textColumns('schema_name', 'table_name', 'column_name'),
  },
  {
    text: 'select s_p.nspname as parentschema, t_p.relname as parenttable, …',
    columns: textColumns('parentschema', 'parenttable'),
  },
  {
    text: 'select n.nspname schema_name, p.proname func_name, …',
    columns: textColumns('schema_name', 'func_name'),
  },
  {
    text: 'select n.nspname schema_name, …type_name from pg_catalog.pg_type t …',
    columns: textColumns('schema_name', 'type_name'),
  },
  {
    text: 'select d.datname from pg_catalog.pg_database d order by 1',
    columns: textColumns('datname'),
    rows: () => [[CONSOLE_DATABASE]],
  },
  // pgjdbc: the types that it does not know, of which there is one here.
  {
    text:
      'select n.nspname = any(current_schemas(true)), n.nspname, t.typname ' +
      'from pg_catalog.pg_type t join pg_catalog.pg_namespace n on t.typnamespace = n.oid ' +
      'where t.oid = $1',
    columns: [{ name: '?column?', type: 'bool' }, ...textColumns('nspname', 'typname')],
    rows: ([type]) => (type === String(INTERVAL.oid) ? [[true, 'pg_catalog', INTERVAL.name]] : []),
    parameterType: OID_TYPE,
  },
  {
    text:
      "select typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname" +
      ', pg_type.oid from pg_catalog.pg_type left join … where …',
    columns: [
      { name: 'is_array', type: 'bool' },
      { name: 'typtype', type: 'char' },
      ...textColumns('typname'),
      oid('oid'),
    ],
    rows: ([type]) =>
      type === INTERVAL.name || type === String(INTERVAL.oid)
        ? [[false, 'b', INTERVAL.name, INTERVAL.oid]]
        : [],
  },
  // DBeaver, over pgjdbc.
  {
    text: 'select db.oid,db.* from pg_catalog.pg_database db where …datname…',
    columns: [
      oid('oid'),
      ...textColumns('datname'),
      { name: 'encoding', type: 'int4' },
      { name: 'datistemplate', type: 'bool' },
      { name: 'datallowconn', type: 'bool' },
      { name: 'datconnlimit', type: 'int4' },
    ],
    // 6 is UTF8 (pg_wchar.h).
    rows: () => [[DATABASE_OID, CONSOLE_DATABASE, 6, false, true, -1]],
  },
  {
    text:
      'select n.oid,n.*,d.description from pg_catalog.pg_namespace n ' +
      'left outer join pg_catalog.pg_description d on …::regclass order by nspname',
    columns: [
      oid('oid'),
      ...textColumns('nspname'),
      oid('nspowner'),
      ...textColumns('description'),
    ],
    // 10 is the bootstrap superuser (pg_authid.dat), to whom the schema belongs.
    rows: () => [[SCHEMA.oid, SCHEMA.name, 10, undefined]],
  },
  {
    text: 'select * from pg_catalog.pg_settings where name=$1',
    columns: textColumns('name', 'setting'),
    rows: ([name = ''], { variables }) => [[name, variables.get(name)]],
  },
  {
    text: "select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> all (…",
    columns: textColumns('string_agg'),
    rows: () => [['']],
  },
  {
    text: 'select t.oid,t.*,c.relkind,…from pg_catalog.pg_type t …',
    columns: [oid('oid'), ...textColumns('typname')],
  },
  // Whether a catalog has a column or a table at all.
  { text: 'select … where 1<>1 limit 1', columns: textColumns('?column?') },
];

/** Characters. No question above is longer, and psql's have names of the user in them. */
const TEXT_LIMIT = 10_000;

const patterns = questions.map((question) => ({ question, parts: question.text.split('…') }));

/** Takes a SELECT that is one of the questions. Undefined, and nothing is taken, for any other. */
export function takeKnownQuestion(reader: StatementReader): ParsedStatement | undefined {
  const asked = reader.text(TEXT_LIMIT)?.replace(/\s+/g, ' ').trim().toLowerCase();
  const found =
    asked === undefined ? undefined : patterns.find(({ parts }) => fits(asked, parts))?.question;
  if (!found) return undefined;
  reader.takeRest();
  const { columns, rows, parameterType } = found;
  return {
    tag: 'SELECT',
    columns,
    requires: undefined,
    ...(parameterType !== undefined && { parameterType }),
    run: (session, parameters) => ({ rows: rows?.(parameters, session) ?? [] }),
  };
}

/** Whether a text consists of these parts, in their order, with anything between two of them. */
function fits(text: string, [first = '', ...others]: readonly string[]): boolean {
  const last = others.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first)) return false;
  let at = first.length;
  for (const part of others) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length >= at + last.length && text.endsWith(last);
}

function oid(name: string): Column {
  return { name, type: 'oid' };
}
