/**
 * The clients of identity providers, which share one HTTP client: keys, client credentials, device
 * authorization and userinfo.
 */
import { Userinfo } from '../auth/userinfo.ts';
import { JsonClient } from '../http/json-client.ts';
import { Discovery } from '../keys/discovery.ts';
import { FetchedKeys } from '../keys/fetched-keys.ts';
import type { KeyStore } from '../keys/key-files.ts';
import { type KeyEvents, keysBySetting } from '../keys/key-source.ts';
import { ClientCredentials } from '../oauth/client-credentials.ts';
import { DeviceAuthorization } from '../oauth/device-authorization.ts';

/** What the clients are made with. */
export interface ProviderOptions {
  /** Names the proxies: HTTPS_PROXY, NO_PROXY and the like. */
  readonly environment: NodeJS.ProcessEnv;
  readonly maxLogins: number;
}

/**
 * Makes the clients. Nothing is sent before `fetched.start` is called or a login needs an answer.
 *
 * @param store where the last good keys of each issuer are stored
 */
export function openProviders<E extends KeyEvents>(
  { environment, maxLogins }: ProviderOptions,
  store: KeyStore,
  events: E,
) {
  const http = new JsonClient(environment);
  const { fetchJson } = http;
  const clocks = { now: Date.now, monotonic: () => performance.now() };
  // A login that waits for an issuer holds a place. Those that wait for keys because of a token
  // that is not verified may take a quarter of the places, and one issuer half of that. The same
  // holds for those that wait for userinfo, and for a token in exchange for client credentials.
  const waitingLimit = Math.ceil(maxLogins / 4);
  const limits = { waitingLimit, waitingShare: Math.ceil(waitingLimit / 2) };
  const discovery = new Discovery(fetchJson, clocks);
  const clientCredentials = new ClientCredentials(fetchJson, discovery, { waitingLimit });
  const { monotonic } = clocks;
  const deviceAuthorization = new DeviceAuthorization({ fetchJson, discovery, monotonic });
  const userinfo = new Userinfo(fetchJson, discovery, limits);
  const fetched = new FetchedKeys({
    fetchJson,
    discovery,
    store,
    events,
    random: Math.random,
    ...clocks,
    ...limits,
  });
  return {
    keys: keysBySetting(fetched),
    fetched,
    exchange: clientCredentials.exchange,
    userinfo: userinfo.lookup,
    deviceAuthorization,
    events,
    async close() {
      fetched.close();
      discovery.close();
      await http.close();
    },
  };
}
