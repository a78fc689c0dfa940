/**
 * The names that the demo's parts agree on: who there is, which database, and what pgsso is told.
 * The embedded demo and the containers of docker-compose.yml share them.
 */
import type { ProviderClient } from '../test/support/oidc.ts';

/** Who can get tokens. Their ids are what an identity provider calls `sub`. */
export const alice: ProviderClient & { readonly secret: string } = {
  id: 'alice@example.com',
  secret: 'demo-only-secret-of-alice',
};

/** The database that the story logs in to. */
export const database = 'shop';

/** Whom tokens for our databases are for. */
export const audience = 'https://databases.example.com';

/** Another service that trusts the same provider; its tokens must not open our databases. */
export const otherAudience = 'https://billing.example.com';

/** What a database administrator prepares. */
export const preparation = [
  'CREATE ROLE alice LOGIN',
  'CREATE ROLE bob LOGIN',
  `CREATE DATABASE ${database}`,
];

/** The settings of pgsso, as arguments of `pgsso serve`. */
export function settings(issuer: string, jwks: string): string[] {
  const values = {
    'server.jwt_authentication.enabled': 'true',
    'server.jwt_authentication.issuers.configuration': issuer,
    'server.jwt_authentication.jwks': jwks,
    'server.jwt_authentication.audience': audience,
    'server.identity_map.configuration': `${issuer} /^(.*)@example\\.com$ \\1`,
  };
  return Object.entries(values).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
}
