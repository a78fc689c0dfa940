/**
 * Builds the parts of the front-end from the options and wires them: the only place that knows them all. What is wrong with the options
 * or with what they name shows here, before the first connection is accepted.
 */
import type { Socket } from 'node:net';
import { Authenticator } from './auth/authenticator.ts';
import { staticKeys } from './auth/key-source.ts';
import { isSocketDirectory, parseBackendUrl } from './backend/backend-url.ts';
import { forwardCancel } from './backend/cancel.ts';
import { type Credentials, passwordCredentials, trust } from './backend/credentials.ts';
import { PasswordFile } from './backend/passfile.ts';
import { BackendTarget } from './backend/target.ts';
import { Console } from './console/console.ts';
import { ConsoleSocket } from './console/console-socket.ts';
import { Operators } from './console/operators.ts';
import { openDataDir } from './data-dir.ts';
import { errorText, UsageError } from './errors.ts';
import { Audit } from './observe/audit.ts';
import type { Log, LogFormat, LogLevel } from './observe/log.ts';
import { RepeatedEvent } from './observe/repeated-event.ts';
import { Statistics } from './observe/statistics.ts';
import { openSettings, type SettingsOptions } from './serve-settings.ts';
import { Cancels } from './session/cancels.ts';
import { ClientCertificate, type ClientTlsOptions } from './session/client-tls.ts';
import { Connections, type ListenAddress, Listener } from './session/listener.ts';
import { LoginSlots } from './session/login-slots.ts';
import { runSession, type SessionParts } from './session/session.ts';
import { SessionLimit } from './session/session-limit.ts';
import { SessionRegistry } from './session/session-registry.ts';
import { settingWarnings } from './settings/warnings.ts';
import { version } from './version.ts';

/** The options of `pgsso serve`; docs and `--help` explain each. Times are in milliseconds. */
export interface ServeOptions extends ClientTlsOptions, SettingsOptions {
  readonly listen: readonly ListenAddress[];
  readonly backend: string;
  /** Whether the URL stands in the command line, where everybody can read it. */
  readonly backendFromFlag: boolean;
  readonly backendAuth: 'trust' | 'password';
  readonly backendPassfile?: string;
  readonly dataDir: string;
  readonly superusers: 'refuse' | 'allow';
  readonly reservedUsers: readonly string[];
  readonly nativeLogins: 'allow' | 'deny';
  /** SQL users who may change settings at the console, and who may only look. */
  readonly admins: readonly string[];
  readonly viewers: readonly string[];
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
  const target = await openBackend(options);
  const { credentials, passwords } = await openCredentials(options, target, log);
  const certificate = await ClientCertificate.open(options);
  const listeners = options.listen.map((address) => ({ address, tls: certificate.forListener(address) }));
  const directory = await openDataDir(options.dataDir);
  const { settings, settingsLogin } = await openSettings(options, directory, log);
  for (const warning of settingWarnings(settings.current.values)) log.warn({ event: 'settings' }, warning);

  const { superusers, reservedUsers, loginTimeout } = options;
  const authenticator = new Authenticator({ keys: staticKeys, now: Date.now, reservedUsers, superusers });
  const statistics = new Statistics(Date.now());
  const registry = new SessionRegistry();
  const operators = new Operators(options.admins, options.viewers);
  const console = new Console({
    settings,
    authenticator,
    keys: staticKeys,
    sessions: registry,
    statistics,
    operators,
    version,
    now: Date.now,
    log,
  });
  const parts: SessionParts = {
    settings,
    authenticator,
    target,
    credentials,
    superusers,
    nativeLogins: options.nativeLogins,
    loginTimeout,
    slots: new LoginSlots(
      options.maxLogins,
      new RepeatedEvent(log, 'logins_dropped', `unfinished logins dropped: there are ${options.maxLogins}, --max-logins`),
    ),
    sessions: new SessionLimit(options.maxSessions),
    registry,
    console,
    cancels: new Cancels(log, (packet, signal) => forwardCancel(target, packet, signal)),
    audit: new Audit(log, statistics),
  };

  const connections = new Connections();
  const open: Listener[] = [];
  let socket: ConsoleSocket | undefined;
  let number = 0;
  const openSocket = async (port: number): Promise<void> => {
    socket = await ConsoleSocket.open({ directory, port, console, loginTimeout, log });
  };
  try {
    const firstPort = options.listen[0]?.port ?? 0;
    // The socket is there before anybody can log in; a port that the system chooses is known only afterwards.
    if (firstPort !== 0) await openSocket(firstPort);
    for (const { address, tls } of listeners) {
      const connected = (socket: Socket): void => connections.follow(socket, runSession(socket, tls(), ++number, parts));
      open.push(await Listener.open(address, connected));
      if (!socket) await openSocket(open[0]?.address.port ?? 0);
    }
  } catch (error) {
    for (const listener of open) listener.close();
    console.close();
    await socket?.close();
    await settings.close();
    throw error;
  }
  const addresses = open.map((listener) => listener.address);
  log.info({ event: 'start', listen: addresses.map(({ host, port }) => `${host}:${port}`) }, 'ready for connections');

  return {
    addresses,
    async reload() {
      for (const file of [certificate, target, passwords, settingsLogin]) {
        try {
          await file?.reload();
        } catch (error) {
          log.error({ event: 'reload', reason: errorText(error) }, 'file not read again: the old one stays in use');
        }
      }
      log.info({ event: 'reload' }, 'certificates and credential files read again');
    },
    async drain() {
      for (const listener of open) listener.close();
      // Over the socket an operator can still look at the sessions that are waited for, and end them.
      console.drain();
      const overdue = setTimeout(() => {
        log.warn({ event: 'shutdown', sessions: connections.size }, 'sessions ended: --drain-timeout is over');
        connections.destroy();
      }, options.drainTimeout);
      await connections.ended();
      clearTimeout(overdue);
      console.close();
      await socket?.close();
      await settings.close();
      log.info({ event: 'shutdown' }, 'stopped');
    },
  };
}

async function openBackend({ backend, backendFromFlag }: ServeOptions): Promise<BackendTarget> {
  let url: ReturnType<typeof parseBackendUrl>;
  try {
    url = parseBackendUrl(backend, backendFromFlag ? 'flag' : 'environment');
  } catch (error) {
    throw new UsageError(`--backend: ${errorText(error)}`);
  }
  try {
    return await BackendTarget.open(url);
  } catch (error) {
    throw new Error(`--backend: ${errorText(error)}`, { cause: error });
  }
}

/** How to log in at the backend, and the password file if there is one. */
async function openCredentials(
  { backendAuth, backendPassfile }: ServeOptions,
  { url }: BackendTarget,
  log: Log,
): Promise<{ credentials: Credentials; passwords?: PasswordFile }> {
  if (backendAuth === 'trust') {
    if (backendPassfile !== undefined) throw new UsageError('--backend-passfile is of no use with --backend-auth trust');
    if (!url.hosts.every(({ host }) => isSocketDirectory(host))) {
      log.warn(
        { event: 'start' },
        '--backend-auth trust over TCP: whoever else reaches the backend from a trusted address gets in as anybody, too',
      );
    }
    return { credentials: trust };
  }
  if (url.password !== undefined) {
    const password = Buffer.from(url.password);
    return { credentials: passwordCredentials(url.requireAuth, () => password) };
  }
  if (backendPassfile === undefined) throw new UsageError('--backend-auth password needs --backend-passfile');
  try {
    const passwords = await PasswordFile.open(backendPassfile);
    return { credentials: passwordCredentials(url.requireAuth, (key) => passwords.find(key)), passwords };
  } catch (error) {
    throw new Error(`--backend-passfile: ${errorText(error)}`, { cause: error });
  }
}
