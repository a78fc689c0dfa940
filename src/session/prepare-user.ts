/**
 * Between the decision and the backend: sees to it that the user exists and has the roles that the
 * groups stand for. `auth` and `directory` do not know each other and meet here.
 */
import { emptyGroupsRefusal, mapGroups } from '../auth/groups.ts';
import type { Identity } from '../auth/identity.ts';
import { creationRefusal, mayBeCreated } from '../auth/refusals.ts';
import type { Directory, DirectoryOutcome } from '../directory/directory.ts';
import { unavailable } from '../directory/pool.ts';
import { PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { JWT_OPTION } from '../wire/options.ts';

/**
 * Creates the user and changes the user's roles, as far as the settings ask for it, and notes in
 * the record what was done.
 *
 * @throws PgError if that fails, if the user may not be created, or is in no group; the signal's
 *   reason
 */
export async function prepareUser(
  identity: Identity,
  values: SettingValues,
  directory: Directory | undefined,
  record: LoginRecord,
  signal: AbortSignal,
): Promise<void> {
  const { user, groups, issuer } = identity;
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  const provisions = values['security.provisioning.jwt.enabled'];
  if (!provisions && groups === undefined) return;
  // Another process may have switched it on: SET is vetted only by the process that gets it.
  if (!directory) throw unavailable('a setting needs it, and this process was started without it');
  const noGroups = emptyGroupsRefusal(identity, values);
  const mayCreate = mayBeCreated(user, values['pgsso.provisioning.pattern']);
  const outcome = await directory.prepare(
    {
      user,
      // A user that is going to be refused is not created first.
      createFor: provisions && mayCreate && !noGroups ? issuer : undefined,
      roles: groups && mapGroups(values['pgsso.role_map.configuration'], groups, issuer, issuers),
    },
    signal,
  );
  note(record, outcome);
  if (noGroups) throw noGroups;
  if (provisions && !outcome.exists) throw creationRefusal(identity, values);
}

/**
 * Refuses a user that an identity provider created and that logs in without a token. PostgreSQL
 * lets such a user set a password of its own, which would outlive its account at the identity
 * provider. It is asked behind the backend's own login, so that strangers neither ask nor learn it.
 *
 * @throws PgError 28000; 57P03 if the directory is away; the signal's reason
 */
export async function checkNativeUser(
  user: Buffer,
  directory: Directory | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (!(await directory?.wasProvisioned(user, signal))) return;
  throw new PgError({
    code: 'provisioned_user',
    message:
      `user "${formatText(user.toString())}" was created by an identity provider ` +
      'and logs in with a token',
    hint: `Send options=--${JWT_OPTION}=true and a token as the password.`,
    reason: "the comment on the role says so: 'jwt_token:…'; --directory",
  });
}

function note(
  record: LoginRecord,
  { created, granted, revoked, skipped, kept }: DirectoryOutcome,
): void {
  if (created) record.created = true;
  if (granted.length > 0) record.granted = granted;
  if (revoked.length > 0) record.revoked = revoked;
  if (skipped.length > 0) record.notGranted = skipped.map(({ role, why }) => `${role}: ${why}`);
  if (kept.length > 0) record.notRevoked = kept;
}
