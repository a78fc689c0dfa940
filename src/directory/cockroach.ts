/**
 * The statements for CockroachDB, according to its documentation. A membership has no grantor
 * there, so every membership that no group justifies is revoked, as CockroachDB's own
 * synchronization does. Its superuser is the role `admin`. The origin of a user is the role option
 * PROVISIONSRC, which cannot be changed.
 */

import pg from 'pg';
import { type Dialect, ORIGIN_PREFIX } from './dialect.ts';

const { escapeIdentifier, escapeLiteral } = pg;

/** The dialect of CockroachDB. */
export const cockroach: Dialect = {
  rolesQuery: {
    name: 'pgsso-roles',
    text: `
WITH RECURSIVE subject AS (
  SELECT oid, rolcanlogin, rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1::text
), relevant AS (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY ($2::text[])
  UNION
  SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN subject ON m.member = subject.oid
), reach (start, oid) AS (
  SELECT oid, oid FROM relevant
  UNION
  SELECT reach.start, m.roleid FROM reach JOIN pg_catalog.pg_auth_members m ON m.member = reach.oid
), facts AS (
  SELECT r.oid::int8 AS oid, r.rolname::text AS name,
    EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members m, subject
      WHERE m.roleid = r.oid AND m.member = subject.oid) AS ours,
    false AS others,
    true AS grantable,
    EXISTS (SELECT 1 FROM reach JOIN pg_catalog.pg_roles s ON s.oid = reach.oid
      WHERE reach.start = r.oid
        AND (s.rolsuper OR s.rolname IN ('admin', 'root', 'node'))) AS superuser,
    EXISTS (SELECT 1 FROM reach JOIN pg_catalog.pg_roles s ON s.oid = reach.oid
      WHERE reach.start = r.oid AND s.rolname = current_user) AS directory,
    EXISTS (SELECT 1 FROM reach JOIN subject ON subject.oid = reach.oid
      WHERE reach.start = r.oid) AS circular,
    COALESCE((SELECT o.options::text LIKE '%PROVISIONSRC=${ORIGIN_PREFIX}%'
      FROM [SHOW USERS] o WHERE o.username = r.rolname), false) AS person
  FROM relevant JOIN pg_catalog.pg_roles r ON r.oid = relevant.oid
)
SELECT EXISTS (SELECT 1 FROM subject) AS exists,
  EXISTS (SELECT 1 FROM subject WHERE rolcanlogin) AS can_login,
  EXISTS (SELECT 1 FROM subject WHERE rolsuper) AS superuser,
  EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper) AS unfit,
  COALESCE((SELECT json_agg(facts) FROM facts), '[]') AS roles`,
  },
  lock: undefined,
  usersQuery: `
SELECT username AS user, substring(options::text FROM 'PROVISIONSRC=([^,}]*)') AS origin,
  member_of AS roles
FROM [SHOW USERS]
WHERE options::text LIKE '%PROVISIONSRC=%' OR array_length(member_of, 1) > 0
ORDER BY 1`,
  provisionedQuery: undefined,
  create: (user, origin) => [
    `CREATE USER ${escapeIdentifier(user)} WITH PROVISIONSRC ${escapeLiteral(origin)}`,
  ],
  grant: (role, user) => `GRANT ${escapeIdentifier(role)} TO ${escapeIdentifier(user)}`,
  revoke: (role, user) => `REVOKE ${escapeIdentifier(role)} FROM ${escapeIdentifier(user)}`,
};

/**
 * The query for the facts about the connection's own role. A role that may create users may also
 * grant all roles but `admin`.
 */
export const cockroachSelfQuery = `
SELECT r.rolsuper AS superuser, r.rolcreaterole AS creates, r.rolcreaterole AS grants, 0 AS version
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`;
