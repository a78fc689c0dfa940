/** Rules through a whole front-end: who, from where, and by which method. */
import pg from 'pg';
import root from 'tap';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

const database = await startPostgres({
  hba: ['local all nat scram-sha-256', 'local all all trust'],
  initSql: [
    "CREATE ROLE nat LOGIN PASSWORD 'secret'",
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE "Alice@Example.com" LOGIN',
    'CREATE DATABASE sales',
  ],
});
root.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

const RULES = 'server.host_based_authentication.configuration';

/** Starts a front-end with rules. Returns what logs in there and gives the session's user. */
async function startWith(test: { teardown(done: () => Promise<void>): void }, rules: string) {
  const frontEnd = await startFrontEnd(backend, { settings: { [RULES]: rules } });
  test.teardown(() => frontEnd.close());
  const logIn = async (options: pg.ClientConfig): Promise<string> => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: frontEnd.port,
      database: 'postgres',
      ...options,
    });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query('SELECT session_user AS who');
    await client.end();
    return rows[0].who;
  };
  return { frontEnd, logIn };
}

const byToken = (user: string) => ({ user, password: token(user), options: JWT_OPTION });

root.test('a jwt line lets in clients that cannot send the option', async (t) => {
  const { frontEnd, logIn } = await startWith(t, 'host all nat all native\nhost all all all jwt');
  t.equal(await logIn({ user: 'alice', password: token('alice') }), 'alice');
  t.match(await frontEnd.event({ event: 'login', outcome: 'accepted' }), { method: 'token' });
  t.equal(await logIn(byToken('alice')), 'alice', 'with the option as well');
  t.equal(await logIn({ user: 'nat', password: 'secret' }), 'nat', 'a native line beside it');
  await t.rejects(logIn({ user: 'alice', password: 'secret' }), {
    code: '28000',
    message: 'JWT authentication: invalid token',
  });
});

root.test(
  'a reject is told before a password is asked for, and the log has the line',
  async (t) => {
    const { frontEnd, logIn } = await startWith(t, '# nobody\nhost all alice all reject');
    const message =
      /^no server\.host_based_authentication\.configuration entry for host "127\.0\.0\.1"/;
    await t.rejects(logIn(byToken('alice')), { code: '28000', message });
    t.match(await frontEnd.event({ code: 'rejected_by_rule' }), {
      reason: /line 2: host all alice/,
    });
    await t.rejects(logIn({ user: 'nat', password: 'secret' }), { code: '28000', message });
    t.match(await frontEnd.event({ code: 'no_rule' }), { reason: /no line matches/ });
  },
);

root.test(
  'a half-written replication does not pass a reject by a line of replication',
  async (t) => {
    const rules =
      'host sales all all reject\nhost replication all all native\nhost all all all native';
    const { logIn } = await startWith(t, rules);
    const nat = { user: 'nat', password: 'secret', database: 'sales' };
    await t.rejects(logIn(nat), { code: '28000' });
    // To the server these are false: the session is an ordinary one.
    for (const replication of ['f', 'fal', 'n', 'of']) {
      await t.rejects(logIn(Object.assign({}, nat, { replication })), {
        code: '22023',
        message: `invalid value for parameter "replication": "${replication}"`,
      });
    }
  },
);

root.test('lines narrow a database to an audience', async (t) => {
  const rules = 'host sales all all jwt audience=sales\nhost all all all jwt';
  const { logIn } = await startWith(t, rules);
  t.equal(await logIn(byToken('alice')), 'alice');
  await t.rejects(logIn({ ...byToken('alice'), database: 'sales' }), {
    message: 'JWT authentication: invalid audience',
  });
  const password = token('alice', { aud: 'sales' });
  t.equal(await logIn({ user: 'alice', password, database: 'sales' }), 'alice');
});

root.test('with fold=no the name of an Entra ID user arrives as it is', async (t) => {
  const { logIn } = await startWith(t, 'host all all all jwt fold=no');
  const user = 'Alice@Example.com';
  t.equal(await logIn({ user, password: token(user) }), user);
});

root.test('the console has rules, its socket has none', async (t) => {
  const settings = { [RULES]: 'host pgsso all all reject\nhost all all all native' };
  const frontEnd = await startFrontEnd(backend, { settings, admins: ['alice'] });
  t.teardown(() => frontEnd.close());
  const client = new pg.Client({
    host: '127.0.0.1',
    port: frontEnd.port,
    database: 'pgsso',
    ...byToken('alice'),
  });
  client.on('error', () => undefined);
  await t.rejects(client.connect(), { code: '28000' });
  const owner = new pg.Client({
    host: frontEnd.dataDir,
    port: frontEnd.port,
    database: 'pgsso',
    user: 'owner',
  });
  await owner.connect();
  t.match((await owner.query(`SHOW CLUSTER SETTING ${RULES}`)).rows, [{ [RULES]: /reject/ }]);
  await owner.end();
});

root.test('the JWT option as a startup parameter of its own is a token login', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  const client = new pg.Client({ host: '127.0.0.1', port: frontEnd.port, ...byToken('alice') });
  // node-postgres sends no parameters of the caller's. Drivers that do are asyncpg and pgx.
  const { connection } = client as unknown as { connection: { startup(config: object): void } };
  const startup = connection.startup.bind(connection);
  connection.startup = ({ options: _, ...config }: { options?: string }) =>
    startup({ ...config, database: 'postgres', 'crdb:jwt_auth_enabled': 'true' });
  await client.connect();
  const { rows } = await client.query('SELECT session_user AS who');
  t.strictSame(rows, [{ who: 'alice' }]);
  await client.end();
});
