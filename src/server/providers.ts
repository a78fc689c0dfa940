/**
 * The clients of identity providers, which share one HTTP client: keys, client credentials, device
 * authorization and userinfo. One process of a node fetches keys, and its workers have them from
 * there.
 */
import { Userinfo } from '../auth/userinfo.ts';
import { JsonClient } from '../http/json-client.ts';
import { Discovery } from '../keys/discovery.ts';
import { FetchedKeys } from '../keys/fetched-keys.ts';
import type { KeyState } from '../keys/issuer-keys.ts';
import type { KeyStore } from '../keys/key-files.ts';
import { type KeyEvents, type KeySource, keysBySetting } from '../keys/key-source.ts';
import { SharedKeys, type SharedKeysOptions } from '../keys/shared-keys.ts';
import { ClientCredentials } from '../oauth/client-credentials.ts';
import { DeviceAuthorization } from '../oauth/device-authorization.ts';

/** What the clients are made with. */
export interface ProviderOptions {
  /** Names the proxies: HTTPS_PROXY, NO_PROXY and the like. */
  readonly environment: NodeJS.ProcessEnv;
  readonly maxLogins: number;
  /** How many processes the limits are divided among. Default: 1. */
  readonly workers?: number;
}

const monotonic = (): number => performance.now();

/**
 * Makes the clients. Nothing is sent before `fetched.start` is called or a login needs an answer.
 *
 * @param store where the last good keys of each issuer are stored
 * @param changed called after each fetch of keys with what is known then
 */
export function openProviders<E extends KeyEvents>(
  options: ProviderOptions,
  store: KeyStore,
  events: E,
  changed?: (state: KeyState) => void,
) {
  return openClients(options, events, ({ http, discovery, limits }) => {
    const { fetchJson } = http;
    const clocks = { now: Date.now, monotonic };
    const { random } = Math;
    return new FetchedKeys({
      fetchJson,
      discovery,
      store,
      events,
      changed,
      random,
      ...clocks,
      ...limits,
    });
  });
}

/** The same for a worker, which asks another process for keys. */
export function openWorkerProviders<E extends KeyEvents>(
  options: ProviderOptions,
  events: E,
  ask: SharedKeysOptions['ask'],
) {
  return openClients(
    options,
    events,
    ({ limits }) => new SharedKeys({ ask, events, monotonic, ...limits }),
  );
}

/** What keys are made with. */
interface Clients {
  readonly http: JsonClient;
  readonly discovery: Discovery;
  readonly limits: { readonly waitingLimit: number; readonly waitingShare: number };
}

function openClients<E extends KeyEvents, Fetched extends KeySource & { close(): void }>(
  { environment, maxLogins, workers = 1 }: ProviderOptions,
  events: E,
  openKeys: (clients: Clients) => Fetched,
) {
  const http = new JsonClient(environment);
  const { fetchJson } = http;
  // A login that waits for an issuer holds a place. Those that wait for keys because of a token
  // that is not verified may take a quarter of the places, and one issuer half of that. The same
  // holds for those that wait for userinfo, and for a token in exchange for client credentials.
  const waitingLimit = Math.ceil(maxLogins / 4 / workers);
  const limits = { waitingLimit, waitingShare: Math.ceil(waitingLimit / 2) };
  const discovery = new Discovery(fetchJson, { now: Date.now, monotonic });
  const clientCredentials = new ClientCredentials(fetchJson, discovery, { waitingLimit, workers });
  const deviceAuthorization = new DeviceAuthorization({ fetchJson, discovery, monotonic });
  const userinfo = new Userinfo(fetchJson, discovery, limits);
  const fetched = openKeys({ http, discovery, limits });
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
