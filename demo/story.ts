/**
 * The steps of the demo: Alice logs in with a token, as the role that the identity map gives her,
 * and two wrong logins are refused. Each step checks its result, so that the demo is also a test.
 */

import pg from 'pg';
import { audience, database, otherAudience } from './world.ts';

/** The servers of the demo. */
export interface Scene {
  readonly issuer: string;
  /** The address of pgsso. */
  readonly host: string;
  readonly port: number;
  /** The authority that pgsso's certificate is checked against. Undefined: no TLS. */
  readonly ca?: string | undefined;
  /** Gets one of Alice's tokens. */
  fetchToken(audience?: string): Promise<string>;
}

/**
 * Runs the steps and prints them.
 *
 * @returns Alice's token
 * @throws Error at the first unexpected result
 */
export async function tellStory(scene: Scene, print: (text: string) => void): Promise<string> {
  print(`\n1. Alice gets a token from her identity provider`);
  const token = await scene.fetchToken();
  const { iss, sub, aud, exp, iat } = JSON.parse(
    Buffer.from(token.split('.')[1] ?? '', 'base64url').toString(),
  );
  const minutes = Math.round((exp - iat) / 60);
  print(`   iss ${iss}\n   sub ${sub}\n   aud ${aud}\n   valid for ${minutes} minutes`);
  expectEqual('the issuer', iss, scene.issuer);
  expectEqual('the audience', aud, audience);

  print(`\n2. She logs in with the token as her password`);
  const user = await logIn(scene, 'alice', token);
  print(`   SELECT current_user  →  ${user}`);
  expectEqual('current_user', user, 'alice');

  print(`\n3. Her token for another service does not work here`);
  await showRefusal(
    scene,
    'alice',
    await scene.fetchToken(otherAudience),
    'JWT authentication: invalid audience',
    print,
  );

  print(`\n4. Nor does her own token let her in as Bob`);
  await showRefusal(scene, 'bob', token, 'JWT authentication: invalid principal', print);
  return token;
}

/** Returns lines to paste into a shell that reaches pgsso at this host and port. */
export function pasteLines(
  host: string,
  port: number,
  token: string,
  sslmode: string | undefined,
): string {
  const conninfo =
    `host=${host} port=${port} user=alice dbname=${database}` +
    `${sslmode ? ` sslmode=${sslmode}` : ''} options=--crdb:jwt_auth_enabled=true`;
  const uri =
    `postgresql://alice@${host}:${port}/${database}` +
    `?${sslmode ? `sslmode=${sslmode}&` : ''}options=--crdb%3Ajwt_auth_enabled%3Dtrue`;
  return `Try it yourself: the token goes into PGPASSWORD, then either line will do\n
export PGPASSWORD='${token}'\n
psql "${conninfo}"\n
psql "${uri}"\n`;
}

async function showRefusal(
  scene: Scene,
  user: string,
  token: string,
  expected: string,
  print: (text: string) => void,
): Promise<void> {
  let refusal: pg.DatabaseError;
  try {
    await logIn(scene, user, token);
    throw new Error(`${user} was let in, which should have been refused with: ${expected}`);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    refusal = error;
  }
  print(`   ${refusal.severity} ${refusal.code}: ${refusal.message}\n   DETAIL: ${refusal.detail}`);
  expectEqual('the message', refusal.message, expected);
  expectEqual('the SQLSTATE', refusal.code, '28000');
}

/** Logs in through pgsso and returns the database's current_user. */
async function logIn({ host, port, ca }: Scene, user: string, token: string): Promise<string> {
  const client = new pg.Client({
    host,
    port,
    user,
    database,
    password: token,
    options: '--crdb:jwt_auth_enabled=true',
    ssl: ca !== undefined && { ca },
    connectionTimeoutMillis: 10_000,
  });
  try {
    await client.connect();
    const { rows } = await client.query('SELECT current_user');
    return rows[0].current_user;
  } finally {
    await client.end();
  }
}

function expectEqual(what: string, actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new Error(`${what} should be ${expected}, and is ${actual}`);
}
