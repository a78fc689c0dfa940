/** What the directory is asked for, by the settings and the identity of a login. */

import t from 'tap';
import type { Identity } from '../../src/auth/identity.ts';
import type { Directory, DirectoryRequest } from '../../src/directory/directory.ts';
import type { LoginRecord } from '../../src/observe/audit.ts';
import { prepareUser } from '../../src/session/prepare-user.ts';
import type { SettingName } from '../../src/settings/definitions.ts';
import { buildSnapshot } from '../../src/settings/snapshot.ts';

/** The roles that the directory is asked for. */
async function rolesOf(
  issuer: string,
  groups: readonly string[],
  texts: Partial<Record<SettingName, string>>,
): Promise<readonly string[]> {
  const defaults = new Map(Object.entries(texts)) as Map<SettingName, string>;
  const { values } = buildSnapshot({
    stored: new Map(),
    processDefaults: defaults,
    previous: undefined,
  });
  let asked: readonly string[] = [];
  const prepare = async ({ roles = [] }: DirectoryRequest) => {
    asked = roles.map(({ name }) => name);
    return { exists: true, created: false, granted: [], revoked: [], skipped: [], kept: [] };
  };
  await prepareUser(
    { user: 'partner_1', groups, issuer } as unknown as Identity,
    values,
    { prepare } as unknown as Directory,
    {} as LoginRecord,
    new AbortController().signal,
  );
  return asked;
}

t.test('an issuer that is confined to partner_* does not get corp-dba by its groups', async (t) => {
  const settings = {
    'server.jwt_authentication.authorization.enabled': 'true',
    'server.jwt_authentication.issuers.configuration': '["corp", "partner"]',
    'server.identity_map.configuration': 'corp /^(.*)$ \\1\npartner /^(.*)$ partner_\\1',
  } as const;
  const map = 'pgsso.role_map.configuration';
  t.strictSame(await rolesOf('partner', ['corp-dba'], settings), [], 'without a role map');
  const mapped = { ...settings, [map]: 'corp /^(.*)$ \\1\npartner all readers' };
  t.strictSame(await rolesOf('partner', ['corp-dba', 'all'], mapped), ['readers']);
  t.strictSame(await rolesOf('corp', ['corp-dba', 'all'], mapped), ['corp-dba', 'all']);
  const old = { ...settings, [map]: '/^(.*)$ \\1' };
  t.strictSame(await rolesOf('partner', ['corp-dba'], old), ['corp-dba'], 'by the form of before');
});
