/**
 * The rule that no token logs in as a superuser. Only the backend knows who is one, and says so when the user is logged in, so this
 * check comes after all others and before the client hears of its success.
 */
import type { PgError } from '../errors.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { CheckFailure, refusal } from './checks.ts';
import { formatText } from './text.ts';

/**
 * The refusal of a superuser; undefined for anybody else. Nothing reported counts as a superuser: the rule may not depend on what a
 * backend, or something in front of it, leaves out.
 *
 * @param isSuperuser the ParameterStatus `is_superuser` of the login
 */
export function superuserRefusal(
  user: string,
  isSuperuser: 'on' | 'off' | undefined,
  values: SettingValues,
): PgError | undefined {
  if (isSuperuser === 'off') return undefined;
  const shown = formatText(user);
  const found = `is_superuser = ${isSuperuser ?? '(not reported)'} for ${shown}`;
  const detail = `cannot use JWT auth to login to a reserved user ${shown}`;
  return refusal(new CheckFailure('superuser', { found, detail }), values);
}
