/**
 * Everything that asks identity providers, around one HTTP client: keys, client credentials,
 * userinfo.
 */
import { Userinfo } from '../auth/userinfo.ts';
import { JsonClient } from '../http/json-client.ts';
import { Discovery } from '../keys/discovery.ts';
import { FetchedKeys } from '../keys/fetched-keys.ts';
import type { KeyStore } from '../keys/key-files.ts';
import { type KeyEvents, keysBySetting } from '../keys/key-source.ts';
import { ClientCredentials } from '../oauth/client-credentials.ts';

/** What the parts are made with. */
export interface ProviderOptions {
  /** Where proxies are looked for. */
  readonly environment: NodeJS.ProcessEnv;
  readonly maxLogins: number;
}

/**
 * Makes the parts; nothing is asked before `fetched.start`, or a login.
 *
 * @param shelf where last good keys are kept
 */
export function openProviders<E extends KeyEvents>(
  { environment, maxLogins }: ProviderOptions,
  shelf: KeyStore,
  events: E,
) {
  const http = new JsonClient(environment);
  const { fetchJson } = http;
  const now = Date.now;
  const discovery = new Discovery(fetchJson, now);
  const clientCredentials = new ClientCredentials(fetchJson, discovery);
  const userinfo = new Userinfo(fetchJson, discovery);
  const fetched = new FetchedKeys({
    fetchJson,
    discovery,
    store: shelf,
    events,
    now,
    random: Math.random,
    // Logins that wait hold slots: what forged tokens can take of them leaves most to others.
    waitingLimit: Math.ceil(maxLogins / 4),
  });
  return {
    keys: keysBySetting(fetched),
    fetched,
    exchange: clientCredentials.exchange,
    userinfo: userinfo.lookup,
    events,
    async close() {
      fetched.close();
      clientCredentials.close();
      userinfo.close();
      await http.close();
    },
  };
}
