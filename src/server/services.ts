/**
 * Builds what the sessions of a process share, and what there is once in a node. A process alone
 * has both. With several workers the primary process has the services of the node, and each worker
 * those of its sessions. A mistake in the options, or in a file that they name, ends the start
 * here, before the first connection is accepted.
 */
import { ApiKeyUses } from '../auth/api-keys.ts';
import { Authenticator, type AuthenticatorOptions } from '../auth/authenticator.ts';
import { VerifiedTokens } from '../auth/verified-tokens.ts';
import type { BackendNotice } from '../backend/backend.ts';
import { Routes } from '../backend/routes.ts';
import { Console } from '../console/console.ts';
import { Operators } from '../console/operators.ts';
import type { ConsoleServices } from '../console/session.ts';
import type { Directory } from '../directory/directory.ts';
import type { FetchedKeys } from '../keys/fetched-keys.ts';
import type { KeyState } from '../keys/issuer-keys.ts';
import { KeyFiles } from '../keys/key-files.ts';
import { Audit } from '../observe/audit.ts';
import { KeyLog } from '../observe/key-log.ts';
import { type Log, RepeatedEvent } from '../observe/log.ts';
import { Metrics } from '../observe/metrics.ts';
import { CancelKeys } from '../session/cancel.ts';
import { ClientCertificate } from '../session/client-tls.ts';
import type { SessionServices } from '../session/context.ts';
import { type CopyChoice, chooseCopy } from '../session/copy-choice.ts';
import { Limits, type NodeLimits } from '../session/limits.ts';
import type { ListenAddress } from '../session/listener.ts';
import type { ClientTls } from '../session/negotiate.ts';
import { type NodeSessions, SessionRegistry } from '../session/registry.ts';
import { type NodeThrottle, Throttle } from '../session/throttle.ts';
import type { SettingsStore } from '../settings/store/store.ts';
import type { Closing } from './closing.ts';
import { type OpenDirectory, openDirectory } from './directory.ts';
import { openFilesLimit, openFilesWarning } from './open-files.ts';
import { type ServeOptions, version } from './options.ts';
import { openProviders } from './providers.ts';
import type { Reloadable } from './reloads.ts';
import { openDataDir, openSettings } from './settings.ts';

/** An address that is to be listened on. */
interface ListenerPlan {
  readonly address: ListenAddress;
  /** What its next connection does about TLS. */
  readonly tls: () => ClientTls;
}

/** What the options say about clients and backends, with its files read. */
interface OpenFront {
  readonly routes: Routes;
  readonly certificate: ClientCertificate;
  readonly listeners: readonly ListenerPlan[];
}

/** What the clients of a process meet. */
export interface FrontServices extends SessionServices {
  readonly listeners: readonly ListenerPlan[];
  readonly reloadables: readonly Reloadable[];
}

/** What there is once in a node. */
export interface NodeServices {
  readonly settings: SettingsStore;
  readonly console: Console;
  readonly authenticator: Authenticator;
  readonly fetchedKeys: FetchedKeys;
  readonly apiKeyUses: ApiKeyUses;
  readonly metrics: Metrics;
  readonly directory: Directory | undefined;
  readonly deviceAuthorization: SessionServices['deviceAuthorization'];
  readonly copy: CopyChoice;
  /** An absolute path. */
  readonly dataDir: string;
  readonly reloadables: readonly Reloadable[];
}

/** The services of a node that is one process. */
export interface Services extends FrontServices, NodeServices {
  readonly settings: SettingsStore;
  readonly console: Console;
}

/** How the console of a node learns of what its workers do. */
export interface NodeView {
  readonly sessions: NodeSessions;
  /** Default: those of this process. */
  readonly figures?: ConsoleServices['metrics'];
  /** Tells the workers of changes of the settings. */
  readonly publish?: (settings: SettingsStore) => SettingsStore;
  /** Told after each fetch of keys what is known then. */
  readonly keysChanged?: (state: KeyState) => void;
}

/** What a process has from its node: itself, if it is alone. */
export interface FrontSources
  extends Pick<
    SessionServices,
    | 'settings'
    | 'authenticator'
    | 'deviceAuthorization'
    | 'directory'
    | 'noteLogin'
    | 'console'
    | 'copy'
    | 'metrics'
  > {
  readonly registry: SessionRegistry;
  readonly cancelKeys: CancelKeys;
  readonly limits?: NodeLimits;
  readonly throttle?: NodeThrottle;
}

/**
 * Opens all services in one process. Keys are not fetched yet, and no address is listened on.
 *
 * @throws UsageError for options that cannot be right; Error with one line that names the option
 *   for what cannot be used
 */
export async function openServices(
  options: ServeOptions,
  log: Log,
  closing: Closing,
): Promise<Services> {
  const opened = await openDirectoryOf(options, closing);
  const front = await openFront(options, opened, log);
  const registry = new SessionRegistry();
  const node = await openNode(options, opened, log, closing, { sessions: registry });
  warnOfKey(front, log);
  const { directory } = node;
  const noteLogin = (user: string, at: number): void => directory?.noteLogin(user, at);
  const cancelKeys = new CancelKeys();
  const sources = { ...node, noteLogin, registry, cancelKeys };
  const services = sessionServices(options, front, sources, log, closing);
  const reloadables = [...services.reloadables, ...node.reloadables];
  return { ...services, ...node, reloadables };
}

/**
 * Opens what there is once in a node. Throws as {@link openServices} does.
 *
 * @param view what the console shows of sessions
 */
export async function openNode(
  options: ServeOptions,
  opened: OpenDirectory | undefined,
  log: Log,
  closing: Closing,
  view: NodeView,
): Promise<NodeServices> {
  const directory = opened?.directory;
  const dataDir = await openDataDir(options.dataDir);
  const { settings: store, settingsLogin } = await openSettings(options, dataDir, directory, log);
  closing.add(options.settingsUrl === undefined ? '--data-dir' : '--settings', store);
  const settings = view.publish?.(store) ?? store;
  await warnOfOpenFiles(options, log);
  const metrics = new Metrics(Date.now());
  const keyFiles = new KeyFiles(dataDir);
  const providers = openProviders(options, keyFiles, new KeyLog(log, metrics), view.keysChanged);
  closing.add('identity providers', providers);
  const { keys } = providers;
  const apiKeyUses = new ApiKeyUses();
  const authenticator = createAuthenticator(options, providers, opened, apiKeyUses);
  const { sessions, figures = metrics } = view;
  const copy = await chooseCopy(options.copy);
  warnOfCopy(copy, log);
  const console = new Console({
    ...{ settings, directory, authenticator, keys, apiKeyUses, sessions, copy, log },
    metrics: figures,
    operators: operatorsOf(options),
    version,
    now: Date.now,
  });
  closing.add('console', console);
  const issuers = () => keys.describe(settings.current.values);
  metrics.watchIssuers(() => ({ now: Date.now(), issuers: issuers() }));
  const reloadables = [opened, settingsLogin].filter((files) => files !== undefined);
  return {
    ...{ settings, console, authenticator, apiKeyUses, metrics, directory, dataDir, reloadables },
    fetchedKeys: providers.fetched,
    deviceAuthorization: providers.deviceAuthorization,
    copy,
  };
}

/** Opens the directory, if there is one, and closes it at the end. */
export async function openDirectoryOf(
  options: ServeOptions,
  closing: Closing,
): Promise<OpenDirectory | undefined> {
  const opened = await openDirectory(options);
  if (opened) closing.add('--directory', opened.directory);
  return opened;
}

/** Reads what the options say about clients and backends. Nothing is dialled. */
export async function openFront(
  options: ServeOptions,
  directory: OpenDirectory | undefined,
  log: Log,
): Promise<OpenFront> {
  const ownUsers = directory ? [directory.user] : [];
  const routes = await Routes.open({ ...options, ownUsers }, noticeLogger(log));
  const certificate = await ClientCertificate.open(options);
  const listeners = options.listen.map((address) => ({
    address,
    tls: certificate.forListener(address),
  }));
  return { routes, certificate, listeners };
}

/** What the sessions of a process share. */
export function sessionServices(
  options: ServeOptions,
  { routes, certificate, listeners }: OpenFront,
  sources: FrontSources,
  log: Log,
  closing: Closing,
): FrontServices {
  const { superusers, nativeLogins, replication, loginTimeout, tcpUserTimeout } = options;
  const { metrics, settings } = sources;
  const throttle = new Throttle(undefined, sources.throttle);
  const limits = new Limits(options, log, metrics, sources.limits);
  metrics.watchDeviceLogins(() => limits.deviceWaits);
  metrics.watchRefusals(() => throttle.waiting);
  const audit = new Audit(
    log,
    metrics,
    () => settings.current.values['server.auth_log.sql_sessions.enabled'],
  );
  closing.add('audit', audit);
  const backends = routes.all.map(({ backend }) => backend);
  return {
    ...sources,
    ...{ superusers, nativeLogins, replication, loginTimeout, tcpUserTimeout },
    ...{ routes, listeners, limits, audit, log },
    throttle,
    cancelFailed: new RepeatedEvent(log, 'cancel', 'cancel request not delivered'),
    reloadables: [certificate, ...backends],
  };
}

/** What decides on logins. */
export function createAuthenticator(
  { reservedUsers, superusers }: ServeOptions,
  providers: Pick<AuthenticatorOptions, 'keys' | 'exchange' | 'userinfo' | 'events'>,
  directory: OpenDirectory | undefined,
  apiKeyUses: AuthenticatorOptions['apiKeyUses'],
): Authenticator {
  const { keys, exchange, userinfo, events } = providers;
  return new Authenticator({
    ...{ keys, exchange, userinfo, events, apiKeyUses, superusers },
    verified: new VerifiedTokens(Date.now),
    now: Date.now,
    // The directory's own user creates users and grants roles: no token may log in as it.
    reservedUsers: [...reservedUsers, ...(directory ? [directory.user] : [])],
  });
}

/** The users who may use the console. */
export function operatorsOf({ admins, viewers }: ServeOptions): Operators {
  return new Operators(admins, viewers);
}

/** A key file that others can read. */
export function warnOfKey({ certificate: { keyWarning } }: OpenFront, log: Log): void {
  if (keyWarning !== undefined) log.warn({ event: 'start', option: '--tls-key' }, keyWarning);
}

/** A copy that was not wanted. */
function warnOfCopy({ problem }: CopyChoice, log: Log): void {
  if (problem !== undefined)
    log.warn({ event: 'start', option: '--copy', reason: problem }, 'copied by streams');
}

async function warnOfOpenFiles(options: ServeOptions, log: Log): Promise<void> {
  const limit = await openFilesLimit();
  const warning = limit === undefined ? undefined : openFilesWarning(limit, options);
  if (warning !== undefined) log.warn({ event: 'start', option: '--max-sessions' }, warning);
}

/** A backend that lets others in without a password is logged as an error. */
function noticeLogger(log: Log): BackendNotice {
  return (level, text) => log[level === 'alarm' ? 'error' : 'warn']({ event: 'backend' }, text);
}
