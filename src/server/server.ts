/**
 * Builds the parts of the front-end from the options and wires them: the only place that knows them
 * all. What is wrong with the options or with what they name shows here, before the first
 * connection is accepted.
 */

import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { ApiKeyUses } from '../auth/api-keys.ts';
import { Authenticator } from '../auth/authenticator.ts';
import { VerifiedTokens } from '../auth/verified-tokens.ts';
import type { BackendNotice } from '../backend/backend.ts';
import { type RouteOptions, Routes } from '../backend/routes.ts';
import { Console } from '../console/console.ts';
import { Operators } from '../console/operators.ts';
import { ConsoleSocket } from '../console/socket.ts';
import { KeyFiles } from '../keys/key-files.ts';
import { errorText } from '../lib/errors.ts';
import { Audit } from '../observe/audit.ts';
import { KeyLog } from '../observe/key-log.ts';
import type { Log, LogFormat, LogLevel } from '../observe/log.ts';
import { Metrics } from '../observe/metrics.ts';
import { MetricsServer } from '../observe/metrics-server.ts';
import { ClientCertificate, type ClientTlsOptions } from '../session/client-tls.ts';
import { serveConnection } from '../session/connection.ts';
import type { SessionServices } from '../session/context.ts';
import { Limits } from '../session/limits.ts';
import { Connections, type ListenAddress, Listener } from '../session/listener.ts';
import { SessionRegistry } from '../session/registry.ts';
import { vetWithoutDirectory } from '../settings/store/store.ts';
import { type DirectoryOptions, openDirectory, vetWithDirectory } from './directory.ts';
import { openProviders } from './providers.ts';
import { openDataDir, openSettings, type SettingsOptions } from './settings.ts';

/** The options of `pgsso serve`; docs and `--help` explain each. Times are in milliseconds. */
export interface ServeOptions
  extends ClientTlsOptions,
    RouteOptions,
    DirectoryOptions,
    SettingsOptions {
  readonly listen: readonly ListenAddress[];
  readonly metricsListen?: ListenAddress;
  readonly dataDir: string;
  readonly superusers: 'refuse' | 'allow';
  readonly reservedUsers: readonly string[];
  /** SQL users that may change settings at the console, and those that may only read them. */
  readonly admins: readonly string[];
  readonly viewers: readonly string[];
  readonly nativeLogins: 'allow' | 'deny';
  readonly loginTimeout: number;
  readonly maxLogins: number;
  readonly maxSessions: number;
  readonly drainTimeout: number;
  readonly logFormat?: LogFormat;
  readonly logLevel: LogLevel;
}

/** A front-end that is up. */
export interface RunningServer {
  /** What it listens on, in the order of the options. */
  readonly addresses: readonly ListenAddress[];
  /** Where metrics are served; undefined without `--metrics-listen`. */
  readonly metricsAddress: ListenAddress | undefined;
  /**
   * Reads certificates and credential files again; what cannot be read is logged, and the old one
   * stays in use.
   */
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
  const certificate = await ClientCertificate.open(options);
  const listeners = options.listen.map((address) => ({
    address,
    tls: certificate.forListener(address),
  }));
  const dataDir = await openDataDir(options.dataDir);
  const vet = directory ? vetWithDirectory(directory.directory) : vetWithoutDirectory;
  /** What is closed again, the last first, when the start fails or the process ends. */
  const closing: (() => Promise<void> | void)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closing.splice(0).reverse()) await close();
  };
  if (directory) closing.push(() => directory.directory.close());
  try {
    const { settings, settingsLogin } = await openSettings(
      { ...options, vet, directory: directory?.directory },
      dataDir,
      log,
    );
    closing.push(() => settings.close());

    const { superusers, nativeLogins, loginTimeout } = options;
    const reservedUsers = [...options.reservedUsers, ...(directory ? [directory.user] : [])];
    const metrics = new Metrics(Date.now());
    const registry = new SessionRegistry();
    const providers = openProviders(options, new KeyFiles(dataDir), new KeyLog(log, metrics));
    closing.push(() => providers.close());
    const { fetched, keys, exchange, userinfo, events } = providers;
    const verified = new VerifiedTokens(Date.now);
    const apiKeyUses = new ApiKeyUses();
    const authenticator = new Authenticator({
      keys,
      verified,
      exchange,
      userinfo,
      events,
      apiKeyUses,
      now: Date.now,
      reservedUsers,
      superusers,
    });
    const console = new Console({
      settings,
      authenticator,
      keys,
      directory: directory?.directory,
      apiKeyUses,
      sessions: registry,
      metrics,
      operators: new Operators(options.admins, options.viewers),
      version,
      now: Date.now,
      log,
    });
    closing.push(() => console.close());
    const services: SessionServices = {
      settings,
      authenticator,
      routes,
      directory: directory?.directory,
      superusers,
      nativeLogins,
      loginTimeout,
      limits: new Limits(options, log, metrics),
      registry,
      console,
      log,
      audit: new Audit(log, metrics),
      metrics,
    };
    fetched.start(() => settings.current.values);
    metrics.watchIssuers(() => ({
      now: Date.now(),
      issuers: keys.describe(settings.current.values),
    }));

    let state: 'starting' | 'listening' | 'draining' = 'starting';
    const unready = (): string | undefined => {
      if (state !== 'listening') return state;
      const { values } = settings.current;
      const isFetched = values['server.jwt_authentication.jwks_auto_fetch.enabled'];
      return isFetched && !fetched.wereTried(values)
        ? 'the keys of an issuer have not been fetched yet'
        : undefined;
    };
    const metricsServer =
      options.metricsListen && (await MetricsServer.open(options.metricsListen, metrics, unready));
    if (metricsServer) closing.push(() => metricsServer.close());

    const connections = new Connections();
    const open: Listener[] = [];
    closing.push(() => {
      for (const listener of open) listener.close();
    });
    let socket: ConsoleSocket | undefined;
    let number = 0;
    const openSocket = async (port: number): Promise<void> => {
      const opened = await ConsoleSocket.open({
        directory: dataDir,
        port,
        console,
        loginTimeout,
        log,
      });
      closing.push(() => opened.close());
      socket = opened;
    };
    const firstPort = options.listen[0]?.port ?? 0;
    // The socket is there before anybody can log in; a port that the system chooses is known only
    // afterwards.
    if (firstPort !== 0) await openSocket(firstPort);
    for (const { address, tls } of listeners) {
      const connected = (client: Socket): void =>
        connections.follow(client, serveConnection(client, tls(), ++number, services));
      open.push(await Listener.open(address, connected));
      if (!socket) await openSocket(open[0]?.address.port ?? 0);
    }
    routes.start();
    closing.push(() => routes.close());
    state = 'listening';
    const addresses = open.map((listener) => listener.address);
    log.info(
      { event: 'start', version, listen: addresses.map(({ host, port }) => `${host}:${port}`) },
      'ready for connections',
    );

    const reloaded = [
      certificate,
      ...routes.all.map(({ backend }) => backend),
      directory,
      settingsLogin,
    ];
    return {
      addresses,
      metricsAddress: metricsServer?.address,
      reload: () => reloadFiles(reloaded, log),
      async drain() {
        state = 'draining';
        for (const listener of open) listener.close();
        routes.close();
        services.limits.evictLogins();
        // Over the socket an operator can still look at the sessions that are waited for, and end
        // them.
        console.drain();
        const overdue = setTimeout(() => {
          log.warn(
            { event: 'shutdown', sessions: connections.size },
            'sessions ended: --drain-timeout is over',
          );
          registry.endAll();
          connections.destroy();
        }, options.drainTimeout);
        await connections.ended();
        clearTimeout(overdue);
        await closeAll();
        log.info({ event: 'shutdown' }, 'stopped');
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function reloadFiles(
  files: readonly ({ reload(): Promise<void> } | undefined)[],
  log: Log,
): Promise<void> {
  let failures = 0;
  for (const file of files) {
    try {
      await file?.reload();
    } catch (error) {
      failures++;
      log.error(
        { event: 'reload', reason: errorText(error) },
        'file not read again: the old one stays in use',
      );
    }
  }
  if (failures === 0) log.info({ event: 'reload' }, 'certificates and credential files read again');
}

/** What a backend makes an operator look up for: an alarm is as loud as an error. */
function logNotice(log: Log): BackendNotice {
  return (level, text) => log[level === 'alarm' ? 'error' : 'warn']({ event: 'backend' }, text);
}

/* The version of this program, from its package.json. */

export const { version }: { readonly version: string } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
);
