/**
 * libpq's `target_session_attrs`, decided from what the server reports with each login since PostgreSQL 14: `in_hot_standby` and
 * `default_transaction_read_only` (manual 54.2.7). Nothing is asked on the client's connection.
 */
import type { TargetSessionAttrs } from './backend-url.ts';
import type { BackendSession } from './greeting.ts';

/** A session on a host that is not what `target_session_attrs` wants. */
export class UnfitSession extends Error {}

/**
 * Checks a session that has just begun. `prefer-standby` asks for a standby here; that it takes any other if there is none is the
 * business of whoever goes through the hosts.
 *
 * @throws UnfitSession
 */
export function checkSession({ reported }: BackendSession, wanted: TargetSessionAttrs): void {
  if (wanted === 'any') return;
  const standby = reported.get('in_hot_standby');
  const readOnly = reported.get('default_transaction_read_only');
  if (standby === undefined || readOnly === undefined) {
    throw new UnfitSession(`the server does not report whether it is a standby; target_session_attrs is ${wanted}`);
  }
  const isStandby = standby === 'on';
  const isReadOnly = isStandby || readOnly === 'on';
  const fits = {
    'read-write': !isReadOnly,
    'read-only': isReadOnly,
    primary: !isStandby,
    standby: isStandby,
    'prefer-standby': isStandby,
  }[wanted];
  if (fits) return;
  const found = `${isStandby ? 'a standby' : 'a primary'}, ${isReadOnly ? 'read-only' : 'read-write'}`;
  throw new UnfitSession(`the session is on ${found}; target_session_attrs is ${wanted}`);
}
