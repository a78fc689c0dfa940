/**
 * Builds what the sessions of a process share. A mistake in the options, or in a file that they
 * name, ends the start here, before the first connection is accepted.
 */
import { ApiKeyUses } from '../auth/api-keys.ts';
import { Authenticator } from '../auth/authenticator.ts';
import { VerifiedTokens } from '../auth/verified-tokens.ts';
import type { BackendNotice } from '../backend/backend.ts';
import { Routes } from '../backend/routes.ts';
import { Console } from '../console/console.ts';
import { Operators } from '../console/operators.ts';
import type { ConsoleServices } from '../console/session.ts';
import type { FetchedKeys } from '../keys/fetched-keys.ts';
import { KeyFiles } from '../keys/key-files.ts';
import { Audit } from '../observe/audit.ts';
import { KeyLog } from '../observe/key-log.ts';
import { type Log, RepeatedEvent } from '../observe/log.ts';
import { Metrics } from '../observe/metrics.ts';
import { CancelKeys } from '../session/cancel.ts';
import { ClientCertificate } from '../session/client-tls.ts';
import type { SessionServices } from '../session/context.ts';
import { chooseCopy } from '../session/copy-choice.ts';
import { Limits } from '../session/limits.ts';
import type { ListenAddress } from '../session/listener.ts';
import type { ClientTls } from '../session/negotiate.ts';
import { SessionRegistry } from '../session/registry.ts';
import { Throttle } from '../session/throttle.ts';
import type { SettingsStore } from '../settings/store/store.ts';
import type { Closing } from './closing.ts';
import { type OpenDirectory, openDirectory } from './directory.ts';
import { openFilesLimit, openFilesWarning } from './open-files.ts';
import { type ServeOptions, version } from './options.ts';
import { openProviders } from './providers.ts';
import { openDataDir, openSettings } from './settings.ts';

/** An address that is to be listened on. */
interface ListenerPlan {
  readonly address: ListenAddress;
  /** What its next connection does about TLS. */
  readonly tls: () => ClientTls;
}

/** Files that are read again on SIGHUP. */
interface Reloadable {
  reload(): Promise<void>;
}

/** What the options name, with its files read. */
interface OpenedOptions {
  readonly routes: Routes;
  readonly directory: OpenDirectory | undefined;
  readonly certificate: ClientCertificate;
  readonly listeners: readonly ListenerPlan[];
  /** An absolute path. */
  readonly dataDir: string;
}

/** The services of a process: those that sessions use, and those that only the process uses. */
export interface Services extends SessionServices {
  readonly settings: SettingsStore;
  readonly console: Console;
  readonly fetchedKeys: FetchedKeys;
  readonly listeners: readonly ListenerPlan[];
  readonly dataDir: string;
  readonly reloadables: readonly Reloadable[];
}

/**
 * Opens the services. Keys are not fetched yet, and no address is listened on.
 *
 * @throws UsageError for options that cannot be right; Error with one line that names the option
 *   for what cannot be used
 */
export async function openServices(
  options: ServeOptions,
  log: Log,
  closing: Closing,
): Promise<Services> {
  const { superusers, nativeLogins, replication, loginTimeout, tcpUserTimeout } = options;
  const opened = await openOptions(options, log, closing);
  const { routes, listeners, dataDir } = opened;
  const directory = opened.directory?.directory;
  const { settings, settingsLogin } = await openSettings(options, dataDir, directory, log);
  closing.add(options.settingsUrl === undefined ? '--data-dir' : '--settings', settings);
  await warnOfSystem(options, opened.certificate, log);
  const copy = await chooseCopy(options.copy);
  if (copy.problem !== undefined)
    log.warn({ event: 'start', option: '--copy', reason: copy.problem }, 'copied by streams');
  const metrics = new Metrics(Date.now());
  const registry = new SessionRegistry();
  const throttle = new Throttle();
  const limits = new Limits(options, log, metrics);
  metrics.watchDeviceLogins(() => limits.deviceWaits);
  metrics.watchRefusals(() => throttle.waiting);
  const authentication = openAuthentication(options, opened, log, metrics);
  const { providers, authenticator } = authentication;
  closing.add('identity providers', providers);
  const shared = { settings, directory, authenticator, metrics, log };
  const console = createConsole(options, {
    ...shared,
    keys: providers.keys,
    apiKeyUses: authentication.apiKeyUses,
    sessions: registry,
    copy,
  });
  closing.add('console', console);
  const audit = new Audit(
    log,
    metrics,
    () => settings.current.values['server.auth_log.sql_sessions.enabled'],
  );
  closing.add('audit', audit);
  const issuers = () => providers.keys.describe(settings.current.values);
  metrics.watchIssuers(() => ({ now: Date.now(), issuers: issuers() }));
  return {
    ...shared,
    fetchedKeys: providers.fetched,
    deviceAuthorization: providers.deviceAuthorization,
    routes,
    superusers,
    nativeLogins,
    replication,
    loginTimeout,
    tcpUserTimeout,
    copy,
    limits,
    throttle,
    registry,
    cancelKeys: new CancelKeys(),
    cancelFailed: new RepeatedEvent(log, 'cancel', 'cancel request not delivered'),
    console,
    audit,
    listeners,
    dataDir,
    reloadables: reloadablesOf(opened, settingsLogin),
  };
}

/** Reads what the options name. Nothing is dialled. */
async function openOptions(
  options: ServeOptions,
  log: Log,
  closing: Closing,
): Promise<OpenedOptions> {
  const directory = await openDirectory(options);
  if (directory) closing.add('--directory', directory.directory);
  const ownUsers = directory ? [directory.user] : [];
  const routes = await Routes.open({ ...options, ownUsers }, noticeLogger(log));
  const certificate = await ClientCertificate.open(options);
  const listeners = options.listen.map((address) => ({
    address,
    tls: certificate.forListener(address),
  }));
  const dataDir = await openDataDir(options.dataDir);
  return { routes, directory, certificate, listeners, dataDir };
}

/** What is worth a look about the files that the process reads and opens. */
async function warnOfSystem(
  options: ServeOptions,
  { keyWarning }: ClientCertificate,
  log: Log,
): Promise<void> {
  if (keyWarning !== undefined) log.warn({ event: 'start', option: '--tls-key' }, keyWarning);
  const limit = await openFilesLimit();
  const warning = limit === undefined ? undefined : openFilesWarning(limit, options);
  if (warning !== undefined) log.warn({ event: 'start', option: '--max-sessions' }, warning);
}

/** What decides on logins, with what it asks identity providers. */
function openAuthentication(
  options: ServeOptions,
  { directory, dataDir }: OpenedOptions,
  log: Log,
  metrics: Metrics,
) {
  const providers = openProviders(options, new KeyFiles(dataDir), new KeyLog(log, metrics));
  const { keys, exchange, userinfo, events } = providers;
  const apiKeyUses = new ApiKeyUses();
  const authenticator = new Authenticator({
    keys,
    verified: new VerifiedTokens(Date.now),
    exchange,
    userinfo,
    events,
    apiKeyUses,
    now: Date.now,
    // The directory's own user creates users and grants roles: no token may log in as it.
    reservedUsers: [...options.reservedUsers, ...(directory ? [directory.user] : [])],
    superusers: options.superusers,
  });
  return { providers, authenticator, apiKeyUses };
}

function createConsole(
  { admins, viewers }: ServeOptions,
  services: Omit<ConsoleServices, 'operators' | 'version' | 'now'>,
): Console {
  const operators = new Operators(admins, viewers);
  return new Console({ ...services, operators, version, now: Date.now });
}

function reloadablesOf(
  { certificate, routes, directory }: OpenedOptions,
  settingsLogin: Reloadable | undefined,
): Reloadable[] {
  const backends = routes.all.map(({ backend }) => backend);
  return [certificate, ...backends, directory, settingsLogin].filter((file) => file !== undefined);
}

/** A backend that lets others in without a password is logged as an error. */
function noticeLogger(log: Log): BackendNotice {
  return (level, text) => log[level === 'alarm' ? 'error' : 'warn']({ event: 'backend' }, text);
}
