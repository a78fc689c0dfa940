/**
 * The user, the databases, the audiences and the settings of the demo, on one machine and in the
 * containers of docker-compose.yml.
 */
import type { ProviderClient } from '../test/support/oidc.ts';

/** The user that can get tokens. Its id is the `sub` of its tokens. */
export const alice: ProviderClient & { readonly secret: string } = {
  id: 'alice@example.com',
  secret: 'demo-only-secret-of-alice',
};

/** The database that Alice logs in to. */
export const database = 'shop';

/** The audience of tokens for the demo's databases. */
export const audience = 'https://databases.example.com';

/** The audience of another service with the same provider. pgsso refuses its tokens. */
export const otherAudience = 'https://billing.example.com';

/** The statements that a database administrator runs first. */
export const preparation = [
  'CREATE ROLE alice LOGIN',
  'CREATE ROLE bob LOGIN',
  `CREATE DATABASE ${database}`,
];

/** Returns the settings of pgsso, as arguments of `pgsso serve`. */
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
