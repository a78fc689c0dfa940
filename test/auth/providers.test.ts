/**
 * The recipes of docs/providers.md: with their `--set` lines, parsed as on the command line, the
 * tokens of each provider are accepted.
 */

import { readFile } from 'node:fs/promises';
import t from 'tap';
import type { FetchJson } from '../../src/http/json-client.ts';
import { readProcessDefaults } from '../../src/settings/process-defaults.ts';
import { buildSnapshot, type SettingValues } from '../../src/settings/snapshot.ts';
import { settingWarnings } from '../../src/settings/warnings.ts';
import { KeyWorld } from '../keys/key-world.ts';
import { makeAuthority } from '../support/certificates.ts';
import { publicJwk, testKey } from '../support/tokens.ts';
import { type ProviderFixture, providers } from './providers.ts';

const manual = await readFile(new URL('../../../docs/providers.md', import.meta.url), 'utf8');
const [preface = '', ...sections] = manual.split(/^## /m);
const authority = makeAuthority();

/** The values of `--set` in a part of the page, as a shell would pass them. */
function flagsIn(text: string): string[] {
  return [...text.matchAll(/--set (?:'([^']*)'|"([^"]*)"|(\S+))/g)].map(
    ([, single, double, bare]) =>
      (single ?? double ?? bare ?? '').replace('$(cat ca.crt)', authority.cert),
  );
}

function settingsFor(name: string): SettingValues {
  const section = sections.find((text) => text.startsWith(`${name}\n`));
  const processDefaults = readProcessDefaults([...flagsIn(preface), ...flagsIn(section ?? '')], {});
  return buildSnapshot({ stored: new Map(), processDefaults, previous: undefined }).values;
}

/** The provider's answers, and the addresses that were requested. */
function serve({
  issuer,
  document,
  jwksUri,
  jwk,
  otherKeys = [],
  algorithm,
}: ProviderFixture): [FetchJson, string[]] {
  const asked: string[] = [];
  const pages = new Map<string, unknown>([
    [jwksUri, { keys: [...otherKeys, publicJwk(testKey(algorithm, 'provider'), jwk)] }],
    ...(document
      ? [
          [
            `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
            { issuer, jwks_uri: jwksUri, ...document },
          ] as const,
        ]
      : []),
  ]);
  const fetchJson: FetchJson = async (url, { ca }) => {
    asked.push(`${url}${ca && ' with a CA'}`);
    const page = pages.get(url);
    if (page === undefined) throw new Error('status 404');
    return { body: page, headers: {} };
  };
  return [fetchJson, asked];
}

for (const provider of providers) {
  t.test(`${provider.name}: the recipe accepts its tokens, and no others`, async (t) => {
    const [fetchJson, asked] = serve(provider);
    const world = new KeyWorld(settingsFor(provider.name), { fetchJson });
    t.teardown(() => world.close());
    const key = testKey(provider.algorithm, 'provider');
    const usual = { iss: provider.issuer, sub: undefined, aud: undefined };
    const token = (claims = {}): string =>
      world.token(key, { ...usual, ...provider.claims, ...claims }, provider.header);

    t.equal(await world.login(token(), 'reporting'), 'reporting');
    t.equal(await world.login(token(), ''), 'reporting', 'and without a user');
    t.equal(await world.login(token(), 'postgres'), 'user_not_in_token');
    for (const [claims, code] of provider.refused) {
      t.equal(await world.login(token(claims), 'reporting'), code, JSON.stringify(claims));
    }
    t.equal(asked.length, provider.document ? 2 : 1);
    t.equal(
      asked.every((address) => address.endsWith(' with a CA')),
      provider.name === 'Kubernetes',
    );
    t.strictSame(settingWarnings(world.values), [], 'without a warning');
    const [change] = world.details('keysChanged') as { skipped: string[] }[];
    t.equal(
      change?.skipped.length,
      provider.otherKeys?.length ?? 0,
      'keys for other purposes are skipped',
    );
  });
}

t.test('every recipe has a fixture', async (t) => {
  t.strictSame(
    sections.map((text) => text.split('\n', 1)[0]),
    providers.map(({ name }) => name),
  );
});
