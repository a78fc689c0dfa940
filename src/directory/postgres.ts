/**
 * The statements for PostgreSQL 15 and later. A membership is the directory's own if its grantor is
 * the directory's role, so GRANT and REVOKE name the grantor (before 16 this is checked and has no
 * other effect). Only a direct ADMIN OPTION counts: a grant through an inherited one is recorded
 * with the intermediate role as its grantor (user.c, select_best_admin).
 */

import pg from 'pg';
import { type Dialect, ORIGIN_PREFIX } from './dialect.ts';

/** The comment on the role of row `r`. */
const COMMENT = `pg_catalog.shobj_description(r.oid, 'pg_authid')`;

/** Whether the role of row `r` was created at a first login. */
const IS_PERSON = `pg_catalog.starts_with(${COMMENT}, '${ORIGIN_PREFIX}')`;

/** The first half of the key of the advisory locks: "sso" in ASCII. */
const LOCK_CLASS = 0x73_73_6f;

const { escapeIdentifier, escapeLiteral } = pg;

/** The dialect of PostgreSQL. */
export const postgres: Dialect = {
  rolesQuery: {
    name: 'pgsso-roles',
    // Aggregates are used instead of EXISTS, which the planner may turn into a hash of every user
    // that the directory has created.
    text: `
WITH RECURSIVE self AS (
  SELECT oid, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user
), subject AS (
  SELECT oid, rolcanlogin, rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1::text
), relevant AS (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY ($2::text[])
  UNION
  SELECT m.roleid FROM pg_catalog.pg_auth_members m WHERE m.member = (SELECT oid FROM subject)
), reach (start, oid) AS (
  SELECT oid, oid FROM relevant
  UNION
  SELECT reach.start, m.roleid FROM reach JOIN pg_catalog.pg_auth_members m ON m.member = reach.oid
  WHERE reach.oid <> (SELECT oid FROM self)
), facts AS (
  SELECT r.oid::bigint AS oid, r.rolname AS name, COALESCE(membership.ours, false) AS ours,
    COALESCE(membership.others, false) AS others, COALESCE(own.admin, false) AS grantable,
    above.superuser, above.directory, COALESCE(above.circular, false) AS circular,
    COALESCE(${IS_PERSON}, false) AS person
  FROM relevant JOIN pg_catalog.pg_roles r ON r.oid = relevant.oid, LATERAL (
    SELECT pg_catalog.bool_or(m.grantor = (SELECT oid FROM self)) AS ours,
      pg_catalog.bool_or(m.grantor <> (SELECT oid FROM self)) AS others
    FROM pg_catalog.pg_auth_members m
    WHERE m.roleid = r.oid AND m.member = (SELECT oid FROM subject)
  ) membership, LATERAL (
    SELECT pg_catalog.bool_or(m.admin_option) AS admin
    FROM pg_catalog.pg_auth_members m WHERE m.roleid = r.oid AND m.member = (SELECT oid FROM self)
  ) own, LATERAL (
    SELECT pg_catalog.bool_or(s.rolsuper) AS superuser,
      pg_catalog.bool_or(s.oid = (SELECT oid FROM self)) AS directory,
      pg_catalog.bool_or(s.oid = (SELECT oid FROM subject)) AS circular
    FROM reach JOIN pg_catalog.pg_roles s ON s.oid = reach.oid WHERE reach.start = r.oid
  ) above
)
SELECT EXISTS (SELECT FROM subject) AS exists,
  EXISTS (SELECT FROM subject WHERE rolcanlogin) AS can_login,
  EXISTS (SELECT FROM subject WHERE rolsuper) AS superuser,
  EXISTS (SELECT FROM self WHERE rolsuper) AS unfit,
  COALESCE((SELECT pg_catalog.json_agg(facts) FROM facts), '[]') AS roles`,
  },
  lock: `SELECT pg_catalog.pg_advisory_xact_lock(${LOCK_CLASS}, pg_catalog.hashtext($1))`,
  usersQuery: `
SELECT r.rolname AS user, CASE WHEN ${IS_PERSON} THEN ${COMMENT} END AS origin, ours.roles
FROM pg_catalog.pg_roles r, LATERAL (
  SELECT ARRAY(
    SELECT g.rolname::text FROM pg_catalog.pg_auth_members m
      JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
      JOIN pg_catalog.pg_roles self ON self.oid = m.grantor AND self.rolname = current_user
    WHERE m.member = r.oid ORDER BY 1) AS roles
) ours
WHERE ${IS_PERSON} OR pg_catalog.cardinality(ours.roles) > 0
ORDER BY 1`,
  provisionedQuery: {
    name: 'pgsso-provisioned',
    // The server compares the bytes of a startup packet, whatever the encoding of the database.
    text: `
SELECT COALESCE(${IS_PERSON}, false) AS provisioned FROM pg_catalog.pg_roles r
WHERE r.rolname = pg_catalog.convert_from($1::bytea, pg_catalog.getdatabaseencoding())::name`,
  },
  create(user, origin, { severalGrantors }) {
    const name = escapeIdentifier(user);
    return [
      // From 16 on the directory's role would become a member of the user if the role's own
      // settings say so (manual, createrole_self_grant).
      ...(severalGrantors ? ["SET LOCAL createrole_self_grant = ''"] : []),
      `CREATE ROLE ${name} LOGIN`,
      `COMMENT ON ROLE ${name} IS ${escapeLiteral(origin)}`,
    ];
  },
  grant: (role, user) =>
    `GRANT ${escapeIdentifier(role)} TO ${escapeIdentifier(user)} GRANTED BY CURRENT_USER`,
  revoke: (role, user) =>
    `REVOKE ${escapeIdentifier(role)} FROM ${escapeIdentifier(user)} GRANTED BY CURRENT_USER`,
};

/**
 * The query for the facts about the connection's own role: `superuser`, `creates`, `grants`, and
 * `version` as a number.
 */
export const postgresSelfQuery = `
SELECT s.rolsuper AS superuser, s.rolcreaterole AS creates,
  pg_catalog.current_setting('server_version_num')::int AS version,
  EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
    WHERE m.member = s.oid AND m.admin_option AND ${IS_PERSON} IS NOT TRUE) AS grants
FROM pg_catalog.pg_roles s WHERE s.rolname = current_user`;
