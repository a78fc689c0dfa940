/**
 * Builds the parts of the front-end from the options and wires them: the only place that knows them all. What is wrong with the options
 * or with what they name shows here, before the first connection is accepted.
 */
import type { Socket } from 'node:net';
import { Authenticator } from './auth/authenticator.ts';
import { staticKeys } from './auth/key-source.ts';
import type { BackendNotice } from './backend/backend.ts';
import { type RouteOptions, Routes } from './backend/routes.ts';
import { openDataDir } from './data-dir.ts';
import type { Directory } from './directory/directory.ts';
import { vetWithDirectory } from './directory/vet.ts';
import { errorText, PgError } from './errors.ts';
import { Audit } from './observe/audit.ts';
import type { Log, LogFormat, LogLevel } from './observe/log.ts';
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
  readonly logFormat?: LogFormat;
  readonly logLevel: LogLevel;
  /** Where settings' process defaults are looked for: PGSSO_SET_<NAME>. */
  readonly environment: NodeJS.ProcessEnv;
}

/** A front-end that is up. */
export interface RunningServer {
  /** What it listens on, in the order of the options. */
  readonly addresses: readonly ListenAddress[];
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
  const settings = await FileStore.open({
    directory: await openDataDir(options.dataDir),
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
  const parts: SessionParts = {
    settings,
    authenticator: new Authenticator({ keys: staticKeys, now: Date.now, reservedUsers, superusers }),
    routes,
    directory: directory?.directory,
    superusers,
    nativeLogins: options.nativeLogins,
    loginTimeout: options.loginTimeout,
    slots: new LoginSlots(
      options.maxLogins,
      new RepeatedEvent(log, 'logins_dropped', `unfinished logins dropped: there are ${options.maxLogins}, --max-logins`),
    ),
    sessions: new SessionLimit(options.maxSessions),
    cancels: new Cancels(log, (packet, signal) => routes.cancel(packet, signal)),
    audit: new Audit(log),
  };

  const connections = new Connections();
  const open: Listener[] = [];
  let number = 0;
  try {
    for (const { address, tls } of listeners) {
      const connected = (socket: Socket): void => connections.follow(socket, runSession(socket, tls(), ++number, parts));
      open.push(await Listener.open(address, connected));
    }
  } catch (error) {
    for (const listener of open) listener.close();
    await settings.close();
    await directory?.directory.close();
    throw error;
  }
  routes.start();
  const addresses = open.map((listener) => listener.address);
  log.info({ event: 'start', listen: addresses.map(({ host, port }) => `${host}:${port}`) }, 'ready for connections');

  return {
    addresses,
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
      for (const listener of open) listener.close();
      routes.close();
      const overdue = setTimeout(() => {
        log.warn({ event: 'shutdown', sessions: connections.size }, 'sessions ended: --drain-timeout is over');
        connections.destroy();
      }, options.drainTimeout);
      await connections.ended();
      clearTimeout(overdue);
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
