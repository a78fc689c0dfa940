/**
 * One login that passes: the issuer, its key, a token, and the settings that accept it. A test
 * changes only what it is about.
 */
import { Authenticator, type AuthenticatorOptions } from '../../src/auth/authenticator.ts';
import type { Identity, LoginRequest } from '../../src/auth/identity.ts';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import { staticKeys } from '../../src/keys/key-source.ts';
import { PgError } from '../../src/lib/errors.ts';
import { noApiKeys } from '../../src/settings/api-keys.ts';
import type { VerificationKey } from '../../src/settings/jwks.ts';
import type { IdentityRule, IdentityRules } from '../../src/settings/maps.ts';
import type { LoginSettings } from '../../src/settings/snapshot.ts';
import { type Members, mintToken, type TestKey, testKey } from '../support/tokens.ts';

export const NOW = Date.UTC(2026, 10, 22, 12);
export const SECONDS = NOW / 1000;
export const ISSUER = 'https://issuer.example';
export const CLAIMS: Members = {
  iss: ISSUER,
  sub: 'alice',
  aud: 'pgsso',
  iat: SECONDS - 10,
  exp: SECONDS + 300,
};
export const KEY = testKey('ES256');

/** What a test changes about the login. */
export interface LoginChange {
  readonly token?: string;
  readonly claims?: Members;
  readonly header?: Members;
  readonly user?: string | undefined;
  readonly namesRole?: boolean;
  readonly settings?: Partial<LoginSettings>;
  readonly options?: Partial<AuthenticatorOptions>;
}

/** One rule of an identity map: the SQL name for a principal, if it matches. */
export type Matcher = (principal: string) => string | undefined;

export function verificationKey({ kid, algorithm, publicKey }: TestKey): VerificationKey {
  return { kid, algorithms: [algorithm], key: publicKey };
}

/** The matchers as rules of the identity map, in the form to which its setting is parsed. */
export function rulesOf(...matchers: readonly Matcher[]): IdentityRules {
  const rules: IdentityRule[] = matchers.map((match, index) => ({
    issuer: ISSUER,
    line: index + 1,
    unanchored: false,
    match,
  }));
  return { rules, rulesFor: (issuer) => rules.filter((rule) => rule.issuer === issuer) };
}

export function settingsOf(change: Partial<LoginSettings> = {}): LoginSettings {
  return {
    'server.jwt_authentication.enabled': true,
    'server.jwt_authentication.jwks': [verificationKey(KEY)],
    'server.jwt_authentication.issuers.configuration': {
      issuers: [ISSUER, 'https://other.example'],
      jwksUris: undefined,
    },
    'server.jwt_authentication.audience': ['pgsso', ''],
    'server.jwt_authentication.claim': '',
    'server.jwt_authentication.api_key_claim': '',
    apiKeys: noApiKeys,
    'server.jwt_authentication.jwks_auto_fetch.enabled': false,
    'server.jwt_authentication.authorization.enabled': false,
    'server.jwt_authentication.group_claim': 'groups',
    'server.jwt_authentication.userinfo_group_key': 'groups',
    'server.identity_map.configuration': rulesOf(),
    'server.jwt_authentication.issuers.custom_ca': '',
    'server.jwt_authentication.client.timeout': 15_000,
    'pgsso.clock_tolerance': 5000,
    'pgsso.jwks_max_age': 24 * 3_600_000,
    'pgsso.allow_insecure_http': false,
    'pgsso.client_credentials.issuer': '',
    'pgsso.client_credentials.audience': '',
    'pgsso.client_credentials.scope': '',
    'server.oauthbearer_authentication.enabled': false,
    'server.oauthbearer_authentication.issuers': { issuers: [], jwksUris: undefined },
    'server.oauthbearer_authentication.audience': [],
    'server.oauthbearer_authentication.jwks': [],
    'server.oauthbearer_authentication.jwks_auto_fetch.enabled': false,
    'server.oauthbearer_authentication.claim': '',
    'server.oauthbearer_authentication.scope': '',
    ...change,
  };
}

export function requestOf(change: LoginChange): LoginRequest {
  return {
    token: change.token ?? mintToken(KEY, { ...CLAIMS, ...change.claims }, change.header),
    user: 'user' in change ? change.user : 'alice',
    namesRole: change.namesRole ?? false,
  };
}

export function authenticatorOf(options: Partial<AuthenticatorOptions> = {}): Authenticator {
  const now = (): number => NOW;
  return new Authenticator({
    keys: staticKeys,
    verified: new VerifiedTokens(now),
    exchange: async (request) => request,
    events: { verified: () => undefined },
    now,
    reservedUsers: [],
    superusers: 'refuse',
    ...options,
  });
}

export function login(change: LoginChange = {}): Promise<Identity> {
  const { signal } = new AbortController();
  return authenticatorOf(change.options).authenticate(
    requestOf(change),
    settingsOf(change.settings),
    signal,
  );
}

/** The refusal of a login that must fail. */
export async function refusalOf(change: LoginChange): Promise<PgError> {
  try {
    await login(change);
  } catch (error) {
    if (error instanceof PgError) {
      return error;
    }
    throw error;
  }
  throw new Error('the login was let in');
}
