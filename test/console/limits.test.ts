/** What an operator cannot make the console hold or compute. */
import { once } from 'node:events';
import { mkdir, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { HeldByName, MemoryBudget } from '../../src/console/memory.ts';
import { parseQueryText } from '../../src/console/statements/grammar.ts';
import { formatMessage, int32, parseErrorFields } from '../../src/wire/messages.ts';
import { startFrontEnd } from '../support/front-end.ts';
import { query, RawClient, startup } from '../support/raw-client.ts';
import { makeConsole } from './console-world.ts';

const MIB = 1024 * 1024;
const NAME = 'server.identity_map.configuration';

/** No login is tried, so nothing is dialled. */
const nowhere = 'postgres:///?host=/nowhere';
const frontEnd = await startFrontEnd(nowhere);
t.teardown(() => frontEnd.close());
const { dataDir, port } = frontEnd;
const path = join(dataDir, `.s.PGSQL.${port}`);

const text = (value: string): Buffer => Buffer.from(`${value}\0`);
const sync = formatMessage('S');

function parse(name: string, sql: string): Buffer {
  return formatMessage('P', text(name), text(sql), Buffer.from([0, 0]));
}

function bind(portal: string, name: string, value?: Buffer): Buffer {
  const values =
    value === undefined ? [Buffer.alloc(2)] : [Buffer.from([0, 1]), int32(value.length), value];
  return formatMessage('B', text(portal), text(name), Buffer.alloc(2), ...values, Buffer.alloc(2));
}

const SHOW = 'SHOW CLUSTER SETTINGS';

function execute(portal: string, rows: number): Buffer {
  return formatMessage('E', text(portal), int32(rows));
}

async function rawConsole(): Promise<RawClient> {
  const raw = connect(path);
  await once(raw, 'connect');
  const client = new RawClient(raw);
  client.send(startup({ user: 'raw', database: 'pgsso' }));
  await client.until(0x5a);
  return client;
}

/** Returns the types of the reply up to ReadyForQuery. */
async function answer(client: RawClient, ...messages: Buffer[]): Promise<string> {
  client.send(...messages);
  return (await client.until(0x5a)).types;
}

async function sqlstate(client: RawClient, ...messages: Buffer[]): Promise<string> {
  client.send(...messages);
  const { last } = await client.until(0x45);
  const { code } = parseErrorFields(last?.body ?? Buffer.alloc(0));
  await client.until(0x5a);
  return code ?? '';
}

t.test('11 prepared statements of 3.8 MB on each connection do not end the process', async (t) => {
  const names = Array.from({ length: 11 }, (_, number) => `s${number}`);
  const messages = names.map((name) => parse(name, `SET search_path = a${',a'.repeat(1.9 * MIB)}`));
  const clients = await Promise.all(Array.from({ length: 10 }, rawConsole));
  const before = process.memoryUsage().rss;
  await Promise.all(
    clients.map(async (client) => {
      for (const message of messages) t.equal(await sqlstate(client, message, sync), '54000');
    }),
  );
  t.equal(await answer(clients[0] as RawClient, query('SHOW VERSION')), 'TDCZ');
  for (const client of clients) client.close();
  const grown = (process.memoryUsage().rss - before) / MIB;
  t.ok(grown < 300, `${Math.round(grown)} MB more`);
});

t.test('statements of a megabyte fill 16 MB of a connection and 64 MB of all', async (t) => {
  const sql = `SET CLUSTER SETTING ${NAME} = '#${'x'.repeat(MIB - 200)}'`;
  const clients = await Promise.all(Array.from({ length: 20 }, rawConsole));
  const accepted = await Promise.all(
    clients.map(async (client) => {
      const messages = Array.from({ length: 11 }, (_, number) => parse(`s${number}`, sql));
      let count = 0;
      for (const message of messages)
        if ((await answer(client, message, sync)) === '1Z') count++;
        else break;
      return count;
    }),
  );
  t.ok(accepted.every((count) => count <= 4));
  t.ok(accepted.reduce((sum, count) => sum + count) <= 16);
  const [first] = clients.filter((_, index) => (accepted[index] ?? 0) > 0);
  if (!first) throw new Error('no connection has a statement');
  t.equal(await sqlstate(clients.at(-1) as RawClient, parse('', sql), sync), '54000');
  t.equal(await answer(first, query('DISCARD ALL')), 'CZ');
  t.equal(await answer(first, parse('', sql), sync), '1Z', 'room again');
  for (const client of clients) client.close();
  const next = await rawConsole();
  let tries = 0;
  while ((await answer(next, parse('', sql), sync)) !== '1Z' && tries++ < 100) await sleep(10);
  t.ok(tries < 100, 'a connection that ends gives back what it held');
  next.close();
});

t.test('a short statement with many values or parameters costs what it takes', async (t) => {
  const client = await rawConsole();
  const commas = `SET search_path = a${',a'.repeat(4900)}`;
  const parameters = 'SET search_path = $65535';
  for (const [sql, most] of [
    [commas, 14],
    [parameters, 2],
  ] as const) {
    let count = 0;
    while (count < 20 && (await answer(client, parse(`s${count}`, sql), sync)) === '1Z') count++;
    t.ok(count >= 1 && count <= most, `${count} of ${sql.slice(0, 25)}`);
    await answer(client, query('DISCARD ALL'));
  }
  const names = Array.from({ length: 11 }, (_, number) => `${number}${'n'.repeat(MIB)}`);
  let named = 0;
  for (const name of names) if ((await answer(client, parse(name, ''), sync)) === '1Z') named++;
  t.equal(named, 7, 'names count too');
  client.close();
});

t.test('bound parameters and rows that a portal holds back count', async (t) => {
  const client = await rawConsole();
  const value = Buffer.alloc(MIB - 100, '#');
  client.send(query(`SET CLUSTER SETTING ${NAME} = '${value}'`));
  await client.until(0x5a);
  client.send(parse('set', `SET CLUSTER SETTING ${NAME} = $1`), parse('show', SHOW));
  const portals = Array.from({ length: 20 }, (_, number) => `p${number}`);
  const bound = await answer(client, ...portals.map((name) => bind(name, 'set', value)), sync);
  t.equal(bound, '11222EZ');
  const shown = portals.flatMap((name) => [bind(name, 'show'), execute(name, 1)]);
  t.match(await answer(client, ...shown, sync), /^(2Ds){10,15}2EZ$/);
  t.equal(await answer(client, query(`RESET CLUSTER SETTING ${NAME}`)), 'CZ');
  client.close();
});

t.test('what replaces something takes its room first, and none if there is none', async (t) => {
  const budget = MemoryBudget.ofProcess();
  const held = new HeldByName<string>(budget.ofConnection());
  held.set('a', 'small', 1000);
  held.set('a', 'with rows', 10 * MIB);
  t.equal(budget.used, 10 * MIB + 2);
  t.throws(() => held.set('b', 'more rows', 7 * MIB), { name: 'PgError', sqlstate: '54000' });
  t.throws(() => held.set('a', 'too many rows', 17 * MIB), { name: 'PgError', sqlstate: '54000' });
  t.equal(held.has('a'), false);
  t.equal(budget.used, 0);
});

t.test('the longest value of a setting still fits, by both protocols', async (t) => {
  const client = new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'op' });
  await client.connect();
  const value = `#${'x'.repeat(MIB - 1)}`;
  await client.query(`SET CLUSTER SETTING ${NAME} = '${value}'`);
  await client.query(`SET CLUSTER SETTING ${NAME} = $1`, [value]);
  const { rows } = await client.query(`SHOW CLUSTER SETTING ${NAME}`);
  t.equal(rows[0]?.[NAME]?.length, MIB);
  const wide = `#${'é'.repeat(MIB - 1)}`;
  for (const work of [
    client.query(`SET CLUSTER SETTING ${NAME} = '${wide}'`),
    client.query(`SET CLUSTER SETTING ${NAME} = $1`, [wide]),
  ])
    await t.rejects(work, { code: '54000', severity: 'ERROR' });
  await client.query(`RESET CLUSTER SETTING ${NAME}`);
  await client.end();
});

t.test('a text of more than 10,000 tokens is too complex', async (t) => {
  t.throws(() => parseQueryText(`SET search_path = a${',a'.repeat(5000)}`), {
    name: 'PgError',
    sqlstate: '54001',
  });
  t.throws(() => parseQueryText(';'.repeat(10_001)), { name: 'PgError', sqlstate: '54001' });
  t.equal(parseQueryText('HELP;'.repeat(5000)).length, 5000);
});

t.test('many names after a megabyte of comment are parsed in linear time', async (t) => {
  const sql = `/*${'x'.repeat(MIB - 20_000)}*/ SET search_path = a${',a'.repeat(4900)}`;
  const started = process.cpuUsage();
  t.equal(parseQueryText(sql).length, 1);
  t.ok(process.cpuUsage(started).user < 500_000);
});

t.test('EXPLAIN LOGIN FOR USER with 240 kB of text is refused before it is folded', async (t) => {
  const { run } = await makeConsole();
  const user = `${'q\u0307\u0323'.repeat(80_000)}`;
  const started = process.cpuUsage();
  await t.rejects(run('EXPLAIN LOGIN $1 FOR USER $2', undefined, ['e.e.e', user]), {
    name: 'PgError',
    sqlstate: '22023',
  });
  t.ok(process.cpuUsage(started).user < 300_000);
});

t.test('CANCEL SESSION returns when the query is canceled', async (t) => {
  const { run, services } = await makeConsole();
  const steps: string[] = [];
  t.intercept(services.sessions, 'cancel', {
    value: async () => {
      await sleep(20);
      steps.push('canceled');
      return true;
    },
  });
  await run('CANCEL SESSION 7');
  t.strictSame(steps, ['canceled']);
  t.intercept(services.sessions, 'cancel', { value: async () => false });
  await t.rejects(run('CANCEL SESSION 7'), { name: 'PgError', sqlstate: '42704' });
});

t.test('the socket comes back when the data directory was deleted', async (t) => {
  const own = await startFrontEnd(nowhere);
  t.teardown(() => own.close());
  const config = { host: own.dataDir, port: own.port, database: 'pgsso', user: 'op' };
  const older = new pg.Client(config);
  await older.connect();
  await rm(own.dataDir, { recursive: true });
  await own.event({ event: 'console_socket', outcome: 'lost' });
  await mkdir(own.dataDir, { mode: 0o755 });
  await sleep(2500);
  t.notOk(
    own.events.some(({ outcome }) => outcome === 'listening'),
    'not where others have access',
  );
  await rm(own.dataDir, { recursive: true });
  await mkdir(own.dataDir, { mode: 0o700 });
  await own.event({ event: 'console_socket', outcome: 'listening' });
  t.equal((await stat(join(own.dataDir, `.s.PGSQL.${own.port}`))).mode & 0o777, 0o600);
  const client = new pg.Client(config);
  await client.connect();
  t.equal((await client.query('SELECT 1 AS one')).rows[0]?.one, 1);
  t.equal((await older.query('SELECT 1 AS one')).rows[0]?.one, 1, 'an older connection goes on');
  await Promise.all([client.end(), older.end()]);
  const { length } = own.events.filter(({ event }) => event === 'console_socket');
  t.equal(length, 2, 'told once each');
});
