/**
 * What a login costs when roles follow groups and nothing has to change: the same login through two
 * front-ends of one process, one with and one without the setting, in pairs of random order. The
 * database's own log says how many statements that is; a round trip to it is measured beside, as
 * the unit.
 *
 *     npm run bench:roles
 */

import { randomInt } from 'node:crypto';
import pg from 'pg';
import { type FrontEnd, JWT_OPTION, startFrontEnd, token } from '../test/support/front-end.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { spread } from './statistics.ts';

const ROUNDS = 15;
const LOGINS = 100;
const GROUPS = ['readers', 'writers', 'no role of that name'];

const database = await startPostgres({
  initSql: [
    'CREATE ROLE pgsso_directory LOGIN CREATEROLE NOINHERIT',
    'CREATE ROLE readers',
    'CREATE ROLE writers',
    'CREATE ROLE alice LOGIN',
    'GRANT readers, writers TO pgsso_directory WITH ADMIN OPTION',
  ],
});
const where = `host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const backend = `postgres:///?${where}`;
const plain = await startFrontEnd(backend);
const syncing = await startFrontEnd(backend, {
  directory: `postgres://pgsso_directory@/postgres?${where}`,
  settings: {
    'server.jwt_authentication.authorization.enabled': 'true',
    'security.provisioning.jwt.enabled': 'true',
  },
});

async function login({ port }: FrontEnd): Promise<void> {
  const password = token('alice', { groups: GROUPS });
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: 'alice',
    password,
    database: 'postgres',
    options: JWT_OPTION,
  });
  await client.connect();
  await client.end();
}

interface Sample {
  readonly milliseconds: number;
  readonly cpu: number;
}

/**
 * Of one login or query, on average over a round; the CPU is that of this process, which is client
 * and front-end in one.
 */
async function measure(work: () => Promise<unknown>): Promise<Sample> {
  const before = process.cpuUsage();
  const start = performance.now();
  for (let i = 0; i < LOGINS; i++) await work();
  const milliseconds = (performance.now() - start) / LOGINS;
  const { user, system } = process.cpuUsage(before);
  return { milliseconds, cpu: (user + system) / 1000 / LOGINS };
}

const direct = new pg.Client({
  host: database.socketDir,
  port: database.port,
  user: 'pgsso_directory',
  database: 'postgres',
});
await direct.connect();
const roundTrip = () => direct.query({ name: 'one', text: 'SELECT 1' });

for (const work of [() => login(plain), () => login(syncing), roundTrip]) await measure(work);

await database.query("ALTER SYSTEM SET log_statement = 'all'");
await database.query('SELECT pg_reload_conf()');
await database.query('SELECT pg_sleep(0.1)');
const logged = database.log().length;
await login(syncing);
const statements =
  database
    .log()
    .slice(logged)
    .match(/(?:statement|execute [^:]*): /g)?.length ?? 0;
await database.query("ALTER SYSTEM SET log_statement = 'none'");
await database.query('SELECT pg_reload_conf()');

const rounds: { off: Sample; on: Sample; unit: Sample }[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const unit = await measure(roundTrip);
  const offFirst = randomInt(2) === 0;
  const first = await measure(() => login(offFirst ? plain : syncing));
  const second = await measure(() => login(offFirst ? syncing : plain));
  rounds.push({ unit, off: offFirst ? first : second, on: offFirst ? second : first });
}

const of = (pick: (round: (typeof rounds)[number]) => number): string =>
  spread(rounds.map(pick), 2);
console.log(
  `${ROUNDS} rounds of ${LOGINS} logins, one client, median (lowest to highest) per login`,
);
console.log(`statements of the directory for a login without changes   ${statements}`);
console.log(`login without roles, ms                    ${of(({ off }) => off.milliseconds)}`);
console.log(`login with roles, ms                       ${of(({ on }) => on.milliseconds)}`);
const difference = of(({ on, off }) => on.milliseconds - off.milliseconds);
const ratio = of(({ on, off }) => on.milliseconds / off.milliseconds);
console.log(`difference in one round, ms                ${difference}`);
console.log(`ratio in one round                         ${ratio}`);
console.log(`one round trip (SELECT 1, prepared), ms    ${of(({ unit }) => unit.milliseconds)}`);
console.log(`CPU of client and front-end, difference, ms ${of(({ on, off }) => on.cpu - off.cpu)}`);

await direct.end();
await Promise.all([plain.close(), syncing.close()]);
await database.close();
