/**
 * SQL users that no token may have: those that the databases made for themselves, whatever an identity map says. Superusers by
 * another name are found only at the backend, which reports `is_superuser`.
 */
import { foldName } from './names.ts';

/** CockroachDB's reserved roles, the empty name, and PostgreSQL's usual superuser. */
const NAMES = ['', 'root', 'node', 'public', 'none', 'admin', 'postgres'];

/** PostgreSQL's predefined roles (manual, section 21.5) and CockroachDB's internal ones. */
const PREFIXES = ['pg_', 'crdb_internal'];

/** Tells the reserved names, to which an operator may add; takes folded names. */
export function reserveNames(additional: readonly string[]): (folded: string) => boolean {
  const names = new Set([...NAMES, ...additional.map(foldName)]);
  return (folded) => names.has(folded) || PREFIXES.some((prefix) => folded.startsWith(prefix));
}
