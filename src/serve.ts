/**
 * Builds the parts of the front-end from the options and wires them: the only place that knows them all. What is wrong with the options
 * or with what they name shows here, before the first connection is accepted.
 */
import type { Socket } from 'node:net';
import { Authenticator } from './auth/authenticator.ts';
import { ClientCredentials } from './auth/client-credentials.ts';
import { Discovery } from './auth/discovery.ts';
import { FetchedKeys } from './auth/fetched-keys.ts';
import { KeyFiles } from './auth/key-files.ts';
import { keysBySetting } from './auth/key-source.ts';
import { Userinfo } from './auth/userinfo.ts';
import { VerifiedTokens } from './auth/verified-tokens.ts';
import type { BackendNotice } from './backend/backend.ts';
import { type RouteOptions, Routes } from './backend/routes.ts';
import { openDataDir } from './data-dir.ts';
import type { Directory } from './directory/directory.ts';
import { vetWithDirectory } from './directory/vet.ts';
import { errorText, PgError } from './errors.ts';
import { JsonClient } from './http/json-client.ts';
import { Audit } from './observe/audit.ts';
import { KeyLog } from './observe/key-log.ts';
import type { Log, LogFormat, LogLevel } from './observe/log.ts';
import { Metrics } from './observe/metrics.ts';
import { MetricsServer } from './observe/metrics-server.ts';
import { RepeatedEvent } from './observe/repeated-event.ts';
import { type DirectoryOptions, openDirectory } from './serve-directory.ts';
import { Cancels } from './session/cancels.ts';
import { ClientCertificate, type ClientTlsOptions } from './session/client-tls.ts';
import { Connections, type ListenAddress, Listener } from './session/listener.ts';
import { LoginSlots } from './session/login-slots.ts';
import { runSession, type SessionParts } from './session/session.ts';
import { SessionLimit } from './session/session-limit.ts';
import { FileStore } from './settings/file-store.ts';
import { readProcessDefaults } from './settings/process-defaults.ts';
import { directorySettings, type SettingsStore, type Vet, vetWithoutDirectory } from './settings/store.ts';
import { settingWarnings } from './settings/warnings.ts';

/** The options of `pgsso serve`; docs and `--help` explain each. Times are in milliseconds. */
export interface ServeOptions extends ClientTlsOptions, RouteOptions, DirectoryOptions {
  readonly listen: readonly ListenAddress[];
  readonly dataDir: string;
  /** `NAME=VALUE` each. */
  readonly settings: readonly string[];
  readonly superusers: 'refuse' | 'allow';
  readonly reservedUsers: readonly string[];
  readonly nativeLogins: 'allow' | 'deny';
  readonly loginTimeout: number;
  readonly maxLogins: number;
  readonly maxSessions: number;
  readonly drainTimeout: number;
  readonly metricsListen?: ListenAddress;
  readonly logFormat?: LogFormat;
  readonly logLevel: LogLevel;
  /** Where settings' process defaults are looked for, PGSSO_SET_<NAME>, and proxies, HTTPS_PROXY. */
  readonly environment: NodeJS.ProcessEnv;
}

/** A front-end that is up. */
export interface RunningServer {
  /** What it listens on, in the order of the options. */
  readonly addresses: readonly ListenAddress[];
  /** What `--metrics-listen` got. */
  readonly metricsAddress: ListenAddress | undefined;
  /** Reads certificates and credential files again; what cannot be read is logged, and the old one stays in use. */
  reload(): Promise<void>;
  /** Accepts nothing more, waits for the sessions up to the drain timeout, then ends them. */
  drain(): Promise<void>;
}

/**
 * Starts the front-end.
 *
 * @throws UsageError for options that cannot be right; Error with one line for what cannot be used
 */
export async function serve(options: ServeOptions, log: Log): Promise<RunningServer> {
  const routes = await Routes.open(options, logNotice(log));
  const directory = await openDirectory(options);
  const vet = directory ? vetWithDirectory(directory.directory) : vetWithoutDirectory;
  const certificate = await ClientCertificate.open(options);
  const listeners = options.listen.map((address) => ({ address, tls: certificate.forListener(address) }));
  const processDefaults = readProcessDefaults(options.settings, options.environment);
  const dataDir = await openDataDir(options.dataDir);
  const settings = await FileStore.open({
    directory: dataDir,
    processDefaults,
    now: Date.now,
    onProblem: (error) =>
      log.error({ event: 'settings', reason: errorText(error) }, 'settings not read: the last good ones stay'),
    vet,
  });
  try {
    await vetAtStart(settings, vet, directory?.directory, log);
  } catch (error) {
    await settings.close();
    await directory?.directory.close();
    throw error;
  }
  for (const warning of settingWarnings(settings.current.values)) log.warn({ event: 'settings' }, warning);

  const { superusers } = options;
  const reservedUsers = [...options.reservedUsers, ...(directory ? [directory.user] : [])];
  const metrics = new Metrics();
  const providers = openProviders(options, dataDir, new KeyLog(log, metrics));
  const { keys, fetched, exchange, userinfo, events } = providers;
  const verified = new VerifiedTokens(Date.now);
  const parts: SessionParts = {
    settings,
    authenticator: new Authenticator({ keys, verified, exchange, userinfo, events, now: Date.now, reservedUsers, superusers }),
    routes,
    directory: directory?.directory,
    superusers,
    nativeLogins: options.nativeLogins,
    loginTimeout: options.loginTimeout,
    slots: new LoginSlots(
      options.maxLogins,
      new RepeatedEvent(log, 'logins_dropped', `unfinished logins dropped: there are ${options.maxLogins}, --max-logins`, () =>
        metrics.loginDropped(),
      ),
    ),
    sessions: new SessionLimit(options.maxSessions),
    cancels: new Cancels(
      log,
      (packet, signal) => routes.cancel(packet, signal),
      () => metrics.cancelDropped(),
    ),
    audit: new Audit(log, metrics),
    metrics,
  };
  fetched.start(() => settings.current.values);
  metrics.watchIssuers(() => ({ now: Date.now(), issuers: keys.describe(settings.current.values) }));

  const connections = new Connections();
  const open: Listener[] = [];
  let number = 0;
  let state: 'starting' | 'listening' | 'draining' = 'starting';
  const unready = (): string | undefined => {
    if (state !== 'listening') return state;
    const { values } = settings.current;
    const isFetched = values['server.jwt_authentication.jwks_auto_fetch.enabled'];
    return isFetched && !fetched.wereTried(values) ? 'the keys of an issuer have not been fetched yet' : undefined;
  };
  let metricsServer: MetricsServer | undefined;
  try {
    metricsServer = options.metricsListen && (await MetricsServer.open(options.metricsListen, metrics, unready));
    for (const { address, tls } of listeners) {
      const connected = (socket: Socket): void => connections.follow(socket, runSession(socket, tls(), ++number, parts));
      open.push(await Listener.open(address, connected));
    }
  } catch (error) {
    for (const listener of open) listener.close();
    metricsServer?.close();
    await providers.close();
    await settings.close();
    await directory?.directory.close();
    throw error;
  }
  routes.start();
  state = 'listening';
  const addresses = open.map((listener) => listener.address);
  log.info({ event: 'start', listen: addresses.map(({ host, port }) => `${host}:${port}`) }, 'ready for connections');

  return {
    addresses,
    metricsAddress: metricsServer?.address,
    async reload() {
      for (const files of [certificate, ...routes.all.map(({ backend }) => backend), directory]) {
        try {
          await files?.reload();
        } catch (error) {
          log.error({ event: 'reload', reason: errorText(error) }, 'file not read again: the old one stays in use');
        }
      }
      log.info({ event: 'reload' }, 'certificates and credential files read again');
    },
    async drain() {
      state = 'draining';
      for (const listener of open) listener.close();
      routes.close();
      const overdue = setTimeout(() => {
        log.warn({ event: 'shutdown', sessions: connections.size }, 'sessions ended: --drain-timeout is over');
        connections.destroy();
      }, options.drainTimeout);
      await connections.ended();
      clearTimeout(overdue);
      metricsServer?.close();
      await providers.close();
      await settings.close();
      await directory?.directory.close();
      log.info({ event: 'shutdown' }, 'stopped');
    },
  };
}

/** What a backend makes an operator look up for: an alarm is as loud as an error. */
function logNotice(log: Log): BackendNotice {
  return (level, text) => log[level === 'alarm' ? 'error' : 'warn']({ event: 'backend' }, text);
}

/** A directory that is away at the start may be there at the first login that needs it; one that is not fit for its task ends the start. */
async function vetAtStart({ current }: SettingsStore, vet: Vet, directory: Directory | undefined, log: Log): Promise<void> {
  try {
    const problem = await directory?.problem();
    if (problem !== undefined) throw new Error(`--directory: ${problem}`);
    await vet(current.values, new Set(directorySettings));
  } catch (error) {
    if (!(error instanceof PgError && error.sqlstate === '57P03')) throw error;
    log.warn({ event: 'start', reason: error.reason }, 'the directory is away: logins that need it are refused');
  }
}

/** Everything that asks identity providers. */
function openProviders({ environment, maxLogins }: ServeOptions, dataDir: string, events: KeyLog) {
  const http = new JsonClient(environment);
  const { fetchJson } = http;
  const now = Date.now;
  const discovery = new Discovery(fetchJson, now);
  const clientCredentials = new ClientCredentials(fetchJson, discovery);
  const userinfo = new Userinfo(fetchJson, discovery);
  const fetched = new FetchedKeys({
    fetchJson,
    discovery,
    shelf: new KeyFiles(dataDir),
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
