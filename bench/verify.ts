/**
 * Measures the cost of verified logins. It counts logins per second through a front-end process to
 * a stub backend, with tokens that are new each time and with a token that was verified before.
 * Beside them it measures the verification alone: by `jose`, as pgsso calls it, and by node:crypto.
 * It also measures the time of a good login, alone and among 333 forged ones a second (10,000 in
 * 30 s) with random key IDs.
 *
 * Each round measures all variants in random order, so that other load on the machine affects all
 * of them alike. PGSSO_BENCH_ROUNDS sets the number of rounds.
 */

import { constants, type KeyObject, verify } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseToken } from '../src/auth/token.ts';
import { verifySignature } from '../src/auth/verify.ts';
import { BACKEND } from '../src/wire/constants.ts';
import { AUDIENCE } from '../test/support/front-end.ts';
import { startIssuer } from '../test/support/issuer.ts';
import { password, RawClient, tokenStartup } from '../test/support/raw-client.ts';
import { mintToken, type SigningAlgorithm, type TestKey, testKey } from '../test/support/tokens.ts';
import { startBenchFrontEnd } from './front-end.ts';
import { median, shuffle, spread } from './statistics.ts';
import { startStubBackend } from './stub-backend.ts';

const ROUNDS = Number(process.env['PGSSO_BENCH_ROUNDS'] ?? 12);
const LOGINS = 400;
const CLIENTS = 8;
const VERIFICATIONS = 400;
const FLOOD_MS = 3000;
const FORGED_PER_SECOND = 333;
const ALGORITHMS: readonly SigningAlgorithm[] = ['RS256', 'ES256', 'EdDSA'];

const keys = ALGORITHMS.map((algorithm) => testKey(algorithm));
const stranger = testKey('ES256', 'stranger');
const issuer = await startIssuer(keys);
const backend = await startStubBackend();
const setting = 'server.jwt_authentication';
const frontEnd = await startBenchFrontEnd(
  `postgres://127.0.0.1:${backend.port}/?sslmode=disable`,
  [
    `${setting}.jwks_auto_fetch.enabled=true`,
    `${setting}.issuers.configuration=${issuer.issuer}`,
  ].flatMap((text) => ['--set', text]),
);
let tokens = 0;

/** The measured values of each variant, one for each round. */
const results = new Map<string, number[]>();
const record = (name: string, value: number): void =>
  void results.set(name, [...(results.get(name) ?? []), value]);

try {
  for (const key of keys) await logIn(token(key));
  for (let round = 0; round < ROUNDS; round++) {
    for (const measure of shuffle([
      ...keys.flatMap(variants),
      () => flood(false),
      () => flood(true),
    ]))
      await measure();
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\r`);
  }
  report();
} finally {
  await frontEnd.stop();
  await issuer.close();
  backend.server.close();
}

function variants(key: TestKey): (() => Promise<void>)[] {
  const { algorithm } = key;
  return [
    () => logins(`${algorithm} new tokens`, () => token(key)),
    async () => {
      const same = token(key);
      await logIn(same);
      await logins(`${algorithm} same token`, () => same);
    },
    () => {
      const { kid, publicKey } = key;
      const set = [{ kid, algorithms: [algorithm], key: publicKey }];
      return alone(`${algorithm} jose alone`, key, (compact) => {
        const parsed = parseToken(compact);
        return () => verifySignature(parsed, set);
      });
    },
    () =>
      alone(`${algorithm} node:crypto alone`, key, (compact) => async () => {
        if (!isVerified(algorithm, compact, key.publicKey)) throw new Error('not verified');
      }),
  ];
}

/** The same verification by node:crypto. */
function isVerified(algorithm: SigningAlgorithm, compact: string, key: KeyObject): boolean {
  const end = compact.lastIndexOf('.');
  const signed = Buffer.from(compact.slice(0, end));
  const signature = Buffer.from(compact.slice(end + 1), 'base64url');
  switch (algorithm) {
    case 'RS256':
      return verify('sha256', signed, { key, padding: constants.RSA_PKCS1_PADDING }, signature);
    case 'ES256':
      return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
    default:
      return verify(null, signed, key, signature);
  }
}

/** Logins per second with several clients, and the CPU time of the front-end for each login. */
async function logins(name: string, nextToken: () => string): Promise<void> {
  const presented = Array.from({ length: LOGINS }, nextToken);
  const cpu = frontEnd.cpuSeconds();
  const started = performance.now();
  const client = async (): Promise<void> => {
    for (let next = presented.pop(); next !== undefined; next = presented.pop()) await logIn(next);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  record(`${name}: logins a second`, (LOGINS * 1000) / (performance.now() - started));
  record(`${name}: front-end CPU, µs a login`, ((frontEnd.cpuSeconds() - cpu) * 1e6) / LOGINS);
}

/**
 * Verifications one after the other. The CPU time is that of all threads, since jose leaves part of
 * the work to the thread pool.
 *
 * @param prepare parses the token, which is not measured
 */
async function alone(
  name: string,
  key: TestKey,
  prepare: (compact: string) => () => Promise<void>,
): Promise<void> {
  const verifications = Array.from({ length: VERIFICATIONS }, () => prepare(token(key)));
  const started = process.cpuUsage();
  for (const run of verifications) await run();
  const { user, system } = process.cpuUsage(started);
  record(`${name}: CPU, µs`, (user + system) / VERIFICATIONS);
}

/** The median time of a good login, one after the other, with or without forged ones beside it. */
async function flood(isFlooded: boolean): Promise<void> {
  const end = performance.now() + FLOOD_MS;
  const times: number[] = [];
  const forging = isFlooded ? forge(end) : Promise.resolve();
  while (performance.now() < end) {
    const good = token(keys[0] ?? stranger);
    const started = performance.now();
    await logIn(good);
    times.push(performance.now() - started);
    await sleep(10);
  }
  await forging;
  record(`a good login ${isFlooded ? 'among forged ones' : 'alone'}: ms`, median(times));
}

async function forge(end: number): Promise<void> {
  const refused: Promise<void>[] = [];
  const started = performance.now();
  while (performance.now() < end) {
    const due = ((performance.now() - started) * FORGED_PER_SECOND) / 1000;
    while (refused.length < due) refused.push(beRefused(token(stranger, `kid ${++tokens}`)));
    await sleep(5);
  }
  await Promise.all(refused);
}

async function beRefused(forged: string): Promise<void> {
  const client = await present(forged);
  const { sqlstate } = await client.error();
  client.close();
  if (sqlstate !== '28000') throw new Error(`a forged token was answered with ${sqlstate}`);
}

async function logIn(presented: string): Promise<void> {
  const client = await present(presented);
  const { types, last } = await client.until(BACKEND.readyForQuery);
  client.close();
  if (!last) throw new Error(`a login failed: ${types}`);
}

async function present(presented: string): Promise<RawClient> {
  const client = await RawClient.connect(frontEnd.port);
  client.send(tokenStartup({ user: 'alice' }));
  await client.message();
  client.send(password(presented));
  return client;
}

function token(key: TestKey, kid = key.kid): string {
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    iss: issuer.issuer,
    sub: 'alice',
    aud: AUDIENCE,
    iat,
    exp: iat + 3600,
    jti: `${++tokens}`,
  };
  return mintToken(
    key,
    { ...claims, groups: Array.from({ length: 20 }, (_, group) => `group-${group}`) },
    { kid },
  );
}

function report(): void {
  console.log(
    `${ROUNDS} rounds in random order, median (range); ` +
      `${LOGINS} logins by ${CLIENTS} clients a round and variant\n`,
  );
  for (const [name, values] of [...results].sort(([left], [right]) => left.localeCompare(right)))
    print(name, values, 0);
  console.log('\nratios within a round');
  for (const { algorithm } of keys) {
    printRatio(
      `${algorithm}: logins, same token to new tokens`,
      [`${algorithm} same token`, `${algorithm} new tokens`],
      'logins a second',
    );
    printRatio(
      `${algorithm}: CPU, jose to node:crypto`,
      [`${algorithm} jose alone`, `${algorithm} node:crypto alone`],
      'CPU, µs',
    );
    print(
      `${algorithm}: jose, share of the CPU of a new login, %`,
      ratios(
        `${algorithm} jose alone: CPU, µs`,
        `${algorithm} new tokens: front-end CPU, µs a login`,
      ).map((ratio) => ratio * 100),
      0,
    );
  }
  printRatio(
    'a good login, among forged ones to alone',
    ['a good login among forged ones', 'a good login alone'],
    'ms',
  );
}

function printRatio(name: string, [over, under]: readonly [string, string], unit: string): void {
  print(name, ratios(`${over}: ${unit}`, `${under}: ${unit}`), 2);
}

/** The ratio of two measured values in each round. */
function ratios(over: string, under: string): number[] {
  const denominators = results.get(under) ?? [];
  return (results.get(over) ?? []).map(
    (value, round) => value / (denominators[round] ?? Number.NaN),
  );
}

function print(name: string, values: readonly number[], digits: number): void {
  const precision = digits || (median(values) < 20 ? 1 : 0);
  console.log(`${name.padEnd(56)} ${spread(values, precision).padStart(20)}`);
}
