/**
 * Which users may be created at their first login. Names that are unusable or reserved do not come this far; the operator may narrow
 * the others down. A user that exists is not asked for.
 */
import type { PgError } from '../errors.ts';
import type { ProvisioningPattern } from '../settings/provisioning-pattern.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { CheckFailure, refusal } from './checks.ts';
import type { Identity } from './identity.ts';
import { formatText } from './text.ts';

/** Whether the name is one of those that may be created; without a pattern each is. */
export function mayBeCreated(user: string, pattern: ProvisioningPattern | undefined): boolean {
  return pattern?.allows(user) ?? true;
}

/** The refusal, as check 7, of a user who does not exist and may not be created. */
export function creationRefusal({ user, principal, issuer, apiKey }: Identity, values: SettingValues): PgError {
  // The client sent the secret of an API key and does not know its name.
  const shown = apiKey === undefined ? formatText(principal) : 'of an API key';
  return refusal(
    new CheckFailure('principal', {
      found: `the user ${formatText(user)}, who does not exist and does not match pgsso.provisioning.pattern`,
      detail: `the value ${shown} for the issuer ${formatText(issuer)} is invalid`,
    }),
    values,
  );
}
