/**
 * Tokens, discovery documents and key sets in the form of real providers, from their documentation.
 * The keys are our own. The settings for each provider are read from docs/providers.md.
 */
import type { Members, SigningAlgorithm } from '../support/tokens.ts';

/** One provider. */
export interface ProviderFixture {
  /** The heading in docs/providers.md. */
  readonly name: string;
  readonly issuer: string;
  /** The discovery document. Undefined if it cannot be reached. */
  readonly document: Members | undefined;
  /** Where the keys are. */
  readonly jwksUri: string;
  readonly algorithm: SigningAlgorithm;
  /** Members of the key that replace or remove the usual ones. */
  readonly jwk: Members;
  /** Further members of the key set. */
  readonly otherKeys?: readonly Members[];
  /** Header members that replace or remove the usual ones. */
  readonly header: Members;
  /** Claims beside `iss`, `iat` and `exp`. */
  readonly claims: Members;
  /** Claims of a token that must be refused, with the code of the refusal. */
  readonly refused: readonly (readonly [Members, string])[];
}

const x5c = ['MIIC/TCCAeWgAwIBAgIIUd7j/OIahkYwDQYJKoZIhvcNAQELBQAwLTErMCkGA1UEAxMi'];
const tenant = '9122040d-6c67-4c5b-b112-36a304b66dad';
const entra = `https://login.microsoftonline.com/${tenant}`;

export const providers: readonly ProviderFixture[] = [
  {
    name: 'Google',
    issuer: 'https://accounts.google.com',
    document: {
      authorization_endpoint: 'https://accounts.google.com/o/oauth2/v2/auth',
      token_endpoint: 'https://oauth2.googleapis.com/token',
      userinfo_endpoint: 'https://openidconnect.googleapis.com/v1/userinfo',
      id_token_signing_alg_values_supported: ['RS256'],
    },
    jwksUri: 'https://www.googleapis.com/oauth2/v3/certs',
    algorithm: 'RS256',
    jwk: {},
    header: {},
    claims: {
      aud: 'databases',
      azp: '110248495921238986420',
      email: 'reporting@my-project.iam.gserviceaccount.com',
      email_verified: true,
      sub: '110248495921238986420',
    },
    refused: [
      [{ email: 'reporting@evil-project.iam.gserviceaccount.com' }, 'no_mapped_name'],
      [{ email: undefined, email_verified: undefined }, 'missing_claim'],
      [{ email_verified: false }, 'invalid_claim_value'],
    ],
  },
  {
    name: 'Kubernetes',
    issuer: 'https://kubernetes.default.svc.cluster.local',
    document: undefined,
    jwksUri: 'https://kubernetes.default.svc/openid/v1/jwks',
    algorithm: 'RS256',
    jwk: {},
    header: { typ: undefined },
    claims: {
      aud: ['databases'],
      jti: 'ea28ed49-2e11-4280-9ec5-bc3d1d84661a',
      'kubernetes.io': {
        namespace: 'prod',
        node: { name: 'node-1', uid: '646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1' },
        pod: { name: 'reporting-0', uid: '5e0bd49b-f040-43b0-99b7-22765a53f7f3' },
        serviceaccount: { name: 'reporting', uid: '14ee3fa4-a7e2-420f-9f9a-dbc4507c3798' },
        warnafter: 1_795_346_507,
      },
      sub: 'system:serviceaccount:prod:reporting',
    },
    refused: [
      [{ sub: 'system:serviceaccount:test:reporting' }, 'no_mapped_name'],
      [{ aud: ['https://kubernetes.default.svc.cluster.local'] }, 'invalid_audience'],
    ],
  },
  {
    name: 'Microsoft Entra ID',
    issuer: `${entra}/v2.0`,
    document: {
      token_endpoint: `${entra}/oauth2/v2.0/token`,
      userinfo_endpoint: 'https://graph.microsoft.com/oidc/userinfo',
      tenant_region_scope: 'EU',
      cloud_instance_name: 'microsoftonline.com',
    },
    jwksUri: `${entra}/discovery/v2.0/keys`,
    algorithm: 'RS256',
    jwk: { alg: undefined, x5t: 'kWfOzDzKCHAVwUmXkyYlbC2Fs7k', x5c, issuer: `${entra}/v2.0` },
    header: {},
    claims: {
      aud: '6731de76-14a6-49ae-97bc-6eba6914391e',
      azp: '8d9a1b58-7c9e-4a16-a9e2-6c6f3b1f1d3f',
      azpacr: '1',
      _claim_names: { groups: 'src1' },
      _claim_sources: { src1: { endpoint: 'https://graph.windows.net/…/getMemberObjects' } },
      name: 'Reporting',
      oid: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
      preferred_username: 'reporting@example.com',
      rh: '0.AX0ADQQikWdsW0yxEjajBLZtrQ.',
      scp: 'db',
      sub: 'AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ',
      tid: tenant,
      uti: 'fqiBqXLPj0eQa82S-IYFAA',
      ver: '2.0',
    },
    refused: [
      [{ oid: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeef' }, 'no_mapped_name'],
      [{ aud: '00000003-0000-0000-c000-000000000000' }, 'invalid_audience'],
      [{ iss: `https://sts.windows.net/${tenant}/` }, 'invalid_issuer'],
    ],
  },
  {
    name: 'Okta',
    issuer: 'https://example.okta.com/oauth2/default',
    document: { token_endpoint: 'https://example.okta.com/oauth2/default/v1/token' },
    jwksUri: 'https://example.okta.com/oauth2/default/v1/keys',
    algorithm: 'RS256',
    jwk: {},
    header: { typ: undefined },
    claims: {
      ver: 1,
      jti: 'AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE',
      aud: 'databases',
      cid: '0oa8h1h1h1h1h1h1h5d7',
      uid: '00ugrenMeqvYla4HW0g3',
      scp: ['openid', 'db'],
      auth_time: 1_795_262_400,
      groups: ['Everyone', 'Data Engineering'],
      sub: 'reporting@example.com',
    },
    refused: [[{ sub: 'reporting@example.com.evil.example' }, 'no_mapped_name']],
  },
  {
    name: 'Auth0',
    issuer: 'https://example.eu.auth0.com/',
    document: { token_endpoint: 'https://example.eu.auth0.com/oauth/token' },
    jwksUri: 'https://example.eu.auth0.com/.well-known/jwks.json',
    algorithm: 'RS256',
    jwk: { x5t: 'NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg', x5c },
    header: {},
    claims: {
      'https://example.com/db_user': 'reporting',
      sub: 'auth0|5f7c8ec7c33c6c004bbafe82',
      aud: ['databases', 'https://example.eu.auth0.com/userinfo'],
      azp: 'my_client_id',
      scope: 'openid profile db',
      permissions: ['read:db'],
    },
    refused: [
      [{ iss: 'https://example.eu.auth0.com' }, 'invalid_issuer'],
      [{ 'https://example.com/db_user': undefined }, 'missing_claim'],
    ],
  },
  {
    name: 'Keycloak',
    issuer: 'https://sso.example.com/realms/company',
    document: {
      token_endpoint: 'https://sso.example.com/realms/company/protocol/openid-connect/token',
    },
    jwksUri: 'https://sso.example.com/realms/company/protocol/openid-connect/certs',
    algorithm: 'RS256',
    jwk: { x5c, x5t: 'kWfOzDzKCHAVwUmXkyYlbC2Fs7k', 'x5t#S256': 'x' },
    otherKeys: [{ kid: 'enc', kty: 'RSA', alg: 'RSA-OAEP', use: 'enc', n: 'AQAB', e: 'AQAB' }],
    header: {},
    claims: {
      jti: 'trrtcc:8b1b7f2c-9c5c-4d5a-a2ae-0d2ae2b1a9f0',
      aud: ['databases', 'account'],
      sub: '5c8d4b1e-6d4c-4a31-8a48-0f0f3a7e7f11',
      typ: 'Bearer',
      azp: 'databases-cli',
      acr: '1',
      realm_access: { roles: ['default-roles-company', 'analyst'] },
      resource_access: { account: { roles: ['manage-account'] } },
      scope: 'email profile',
      email_verified: false,
      preferred_username: 'reporting',
    },
    refused: [[{ aud: 'account' }, 'invalid_audience']],
  },
  {
    name: 'GitHub Actions',
    issuer: 'https://token.actions.githubusercontent.com',
    document: {
      subject_types_supported: ['public', 'pairwise'],
      id_token_signing_alg_values_supported: ['RS256'],
    },
    jwksUri: 'https://token.actions.githubusercontent.com/.well-known/jwks',
    algorithm: 'RS256',
    jwk: { x5c, x5t: 'eBZ_cn3sXYAd0ch4THBKHIgOwOE' },
    header: { x5t: 'eBZ_cn3sXYAd0ch4THBKHIgOwOE' },
    claims: {
      jti: 'example-id',
      sub: 'repo:example/shop:environment:production',
      aud: 'databases',
      ref: 'refs/heads/main',
      sha: '5a0b7c8d',
      repository: 'example/shop',
      repository_owner: 'example',
      run_id: '1234567890',
      environment: 'production',
      job_workflow_ref: 'example/shop/.github/workflows/deploy.yml@refs/heads/main',
      runner_environment: 'github-hosted',
    },
    refused: [
      [{ sub: 'repo:evil/shop:environment:production' }, 'no_mapped_name'],
      [{ sub: 'repo:example/shop:pull_request' }, 'no_mapped_name'],
      [{ sub: 'repo:example/shop:environment:production2' }, 'no_mapped_name'],
    ],
  },
  {
    name: 'AWS Cognito',
    issuer: 'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI',
    document: { token_endpoint: 'https://example.auth.eu-west-1.amazoncognito.com/oauth2/token' },
    jwksUri:
      'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI/.well-known/jwks.json',
    algorithm: 'RS256',
    jwk: {},
    header: { typ: undefined },
    claims: {
      sub: 'e2f5c4a4-1021-70d2-8b0a-6d5e6f7a8b9c',
      'cognito:groups': ['analysts'],
      email_verified: true,
      'cognito:username': 'reporting',
      origin_jti: '5b9f50a3-05da-454a-8b99-b79c2349de77',
      aud: '3n4b5urk1ft4fl3mg5e62d9ado',
      event_id: '0ed5ad5c-7182-4ecf-9c4a-0d6b9c6f6a3a',
      token_use: 'id',
      auth_time: 1_795_262_400,
      email: 'reporting@example.com',
    },
    refused: [
      [
        {
          token_use: 'access',
          aud: undefined,
          client_id: '3n4b5urk1ft4fl3mg5e62d9ado',
          scope: 'openid',
          version: 2,
        },
        'invalid_audience',
      ],
      [{ 'cognito:username': undefined, username: 'reporting' }, 'missing_claim'],
    ],
  },
  {
    name: 'SPIFFE',
    issuer: 'https://oidc.example.org',
    document: {
      authorization_endpoint: '',
      response_types_supported: ['id_token'],
      subject_types_supported: [],
    },
    jwksUri: 'https://oidc.example.org/keys',
    algorithm: 'ES256',
    jwk: { alg: undefined, use: undefined },
    otherKeys: [{ kty: 'EC', use: 'x509-svid', crv: 'P-256', x: 'AQAB', y: 'AQAB', x5c }],
    header: {},
    claims: { aud: ['databases'], sub: 'spiffe://example.org/ns/prod/sa/reporting' },
    refused: [
      [{ sub: 'spiffe://evil.example/ns/prod/sa/reporting' }, 'no_mapped_name'],
      [{ iss: undefined }, 'invalid_issuer'],
    ],
  },
];
