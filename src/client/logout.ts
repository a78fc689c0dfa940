/** Ends a login: its tokens are forgotten here and revoked at the issuer. */
import { errorText } from '../lib/errors.ts';
import { GrantRefused, type Issuer, openIssuer, revoke } from '../oauth/issuer.ts';
import { oauthClient, type Setup } from './setup.ts';
import { type StoredTokens, TokenStore } from './token-store.ts';

/** What became of a login. */
export interface LogoutOutcome {
  /** Whether there was one. */
  readonly wasLoggedIn: boolean;
  /** Why the tokens could not be revoked; undefined if they were. */
  readonly failure: string | undefined;
}

/**
 * Forgets the tokens first, so that they are gone from here even if the issuer is away.
 *
 * @throws Error if there is no issuer, or the file cannot be removed
 */
export async function logOut(setup: Setup, signal: AbortSignal): Promise<LogoutOutcome> {
  const client = await oauthClient(setup.profile);
  if (!client) throw new Error(`there is no login to end: ${setup.loginCommand}`);
  const store = await TokenStore.open(setup.folders.state, client);
  // A refresh that is under way would store its tokens afterwards.
  const tokens = await store.lock(signal, async () => {
    const stored = await store.read();
    await store.remove();
    return stored;
  });
  if (!tokens) return { wasLoggedIn: false, failure: undefined };
  try {
    const issuer = await openIssuer(client, setup.http.fetch, signal);
    // RFC 7009, 2.1: the refresh token first. Its access tokens should go with it.
    for (const [hint, token] of revocable(tokens)) {
      if (!(await revokeIfPossible(issuer, token, hint)))
        return { wasLoggedIn: true, failure: `${client.issuer} has no revocation endpoint` };
    }
    return { wasLoggedIn: true, failure: undefined };
  } catch (error) {
    return { wasLoggedIn: true, failure: errorText(error) };
  }
}

/**
 * RFC 7009, 2.2.1: an issuer may be unable to revoke access tokens, as it is if they are signed and
 * not stored. Such a token ends by itself.
 */
async function revokeIfPossible(issuer: Issuer, token: string, hint: string): Promise<boolean> {
  try {
    return await revoke(issuer, token, hint);
  } catch (error) {
    const isSigned = error instanceof GrantRefused && error.code === 'unsupported_token_type';
    if (isSigned && hint === 'access_token') return true;
    throw error;
  }
}

function revocable({ refresh, access }: StoredTokens): [hint: string, token: string][] {
  const found: [string, string | undefined][] = [
    ['refresh_token', refresh],
    ['access_token', access?.token],
  ];
  return found.flatMap(([hint, token]) => (token === undefined ? [] : [[hint, token]]));
}
