/** Everything that asks identity providers, around one HTTP client: keys, client credentials, userinfo. */
import { ClientCredentials } from './auth/client-credentials.ts';
import { Discovery } from './auth/discovery.ts';
import { FetchedKeys } from './auth/fetched-keys.ts';
import type { KeyEvents } from './auth/key-events.ts';
import type { KeyShelf } from './auth/key-files.ts';
import { keysBySetting } from './auth/key-source.ts';
import { Userinfo } from './auth/userinfo.ts';
import { JsonClient } from './http/json-client.ts';

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
export function openProviders<E extends KeyEvents>({ environment, maxLogins }: ProviderOptions, shelf: KeyShelf, events: E) {
  const http = new JsonClient(environment);
  const { fetchJson } = http;
  const now = Date.now;
  const discovery = new Discovery(fetchJson, now);
  const clientCredentials = new ClientCredentials(fetchJson, discovery);
  const userinfo = new Userinfo(fetchJson, discovery);
  const fetched = new FetchedKeys({
    fetchJson,
    discovery,
    shelf,
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
