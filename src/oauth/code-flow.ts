/**
 * The authorization code flow of a native or web client (RFC 6749, 4.1; OpenID Connect Core, 3.1):
 * PKCE with S256 (RFC 7636), `state`, `nonce`, and the check of `iss` in the answer (RFC 9207).
 */

import { audienceOf, type GrantedTokens, granted, type Issuer } from './issuer.ts';

/** A flow that waits for the browser's return. */
export interface CodeFlow {
  /** Where the browser goes. */
  readonly url: URL;
  /** Marks the answer that belongs to this flow. */
  readonly state: string;
  /**
   * Exchanges the code in the address to which the browser returned.
   *
   * @throws GrantRefused if the issuer or the person refused; Error if the answer is not for this
   *   flow
   */
  finish(returned: URL): Promise<GrantedTokens>;
}

/**
 * Begins a flow.
 *
 * @throws Error if the issuer has no authorization endpoint
 */
export async function beginCodeFlow(issuer: Issuer, redirectUri: string): Promise<CodeFlow> {
  const { library, configuration, client, scope } = issuer;
  if (configuration.serverMetadata().authorization_endpoint === undefined)
    throw new Error(`${client.issuer} has no authorization endpoint; try --device`);
  const verifier = library.randomPKCECodeVerifier();
  const state = library.randomState();
  const nonce = library.randomNonce();
  const isOpenId = scope.split(' ').includes('openid');
  const url = library.buildAuthorizationUrl(configuration, {
    redirect_uri: redirectUri,
    scope,
    state,
    code_challenge: await library.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...(isOpenId && { nonce }),
    // OpenID Connect Core, 11: without it, offline_access is ignored.
    ...(scope.split(' ').includes('offline_access') && { prompt: 'consent' }),
    ...audienceOf(client),
  });
  return {
    url,
    state,
    finish: (returned) =>
      granted(issuer, () =>
        library.authorizationCodeGrant(
          configuration,
          returned,
          {
            pkceCodeVerifier: verifier,
            expectedState: state,
            ...(isOpenId && { expectedNonce: nonce, idTokenExpected: true }),
          },
          audienceOf(client),
        ),
      ),
  };
}
