/**
 * The services of docker-compose.yml beside pgsso and PostgreSQL, one command each. `setup` makes
 * keys and a certificate once, `provider` is the OpenID provider, and `story` plays the demo. They
 * share the directory `/shared`.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { errorText } from '../src/lib/errors.ts';
import { makeAuthority } from '../test/support/certificates.ts';
import {
  fetchToken,
  makeSigningKeys,
  startProvider,
  toPublicKeySet,
} from '../test/support/oidc.ts';
import { pasteLines, tellStory } from './story.ts';
import { alice, audience } from './world.ts';

const file = {
  signingKeys: '/shared/signing-keys.json',
  publicKeys: '/shared/jwks.json',
  authority: '/shared/ca.crt',
  certificate: '/shared/tls.crt',
  key: '/shared/tls.key',
} as const;

/** The names of the services in docker-compose.yml. */
const issuer = 'http://identity-provider:9000';
const frontEnd = { host: 'pgsso', port: 26257 };

const commands: Readonly<Record<string, () => Promise<void>>> = { setup, provider, story };

const name = process.argv[2] ?? '';
try {
  const command = commands[name];
  if (!command) throw new Error(`one of ${Object.keys(commands).join(', ')} was expected`);
  await command();
} catch (error) {
  process.stderr.write(`${name}: ${errorText(error)}\n`);
  process.exitCode = 1;
}

async function setup(): Promise<void> {
  if (existsSync(file.key)) return; // An earlier `docker compose up` made it.
  const keys = await makeSigningKeys();
  const authority = makeAuthority('pgsso demo authority');
  const { cert, key } = authority.issue({
    cn: frontEnd.host,
    san: [frontEnd.host, 'localhost', '127.0.0.1'],
    usage: 'server',
  });
  writeFileSync(file.signingKeys, JSON.stringify(keys), { mode: 0o600 });
  writeFileSync(file.publicKeys, toPublicKeySet(keys));
  writeFileSync(file.authority, authority.cert);
  writeFileSync(file.certificate, cert);
  // The key is written last: if it exists, all files do.
  writeFileSync(file.key, key, { mode: 0o600 });
}

async function provider(): Promise<void> {
  const keys = JSON.parse(readFileSync(file.signingKeys, 'utf8'));
  const server = await startProvider({
    clients: [alice],
    audience,
    issuer,
    host: '0.0.0.0',
    port: 9000,
    keys,
  });
  process.once('SIGTERM', () => void server.stop());
}

async function story(): Promise<void> {
  const scene = {
    issuer,
    ...frontEnd,
    ca: readFileSync(file.authority, 'utf8'),
    fetchToken: (tokenAudience?: string) => fetchToken(issuer, alice, tokenAudience),
  };
  const token = await tellStory(scene, print);
  print(`\n${pasteLines('localhost', frontEnd.port, token, 'require')}`);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
