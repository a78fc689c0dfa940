/**
 * A backend, as `--backend` or a `--route` names it: its hosts, the credentials of the front-end
 * and the connections opened ahead. After the first login at a host it also tests whether the host
 * insists on those credentials.
 */
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { AUTHENTICATION, PROTOCOL_3_0 } from '../wire/constants.ts';
import { formatStartup, type StartupParameter } from '../wire/startup.ts';
import { connectAs } from './connect.ts';
import { type BackendSession, readRequest, write } from './connection.ts';
import type { Credentials } from './credentials.ts';
import { dialHost } from './dial.ts';
import { BackendRefusal } from './errors.ts';
import { logInNatively, type NativeLoginOptions } from './native-login.ts';
import { type CredentialOptions, openCredentials } from './open-credentials.ts';
import { OpenedAhead } from './opened-ahead.ts';
import { RouteAdmission, type RouteShare } from './route-admission.ts';
import { BackendTarget } from './target.ts';
import { type BackendHost, type BackendUrl, formatHost, isSocketDirectory } from './url.ts';

/** How to log in, and how many connections to open ahead. */
export interface BackendOptions extends CredentialOptions {
  readonly backendAhead: number;
}

/** What an operator should know of a backend. `alarm`: others can log in there as anybody. */
export type BackendNotice = (level: 'alarm' | 'warning', text: string) => void;

const OWN_ROLE: StartupParameter = { name: 'role', value: Buffer.from('none') };

/** A backend for logins. */
export class Backend {
  readonly target: BackendTarget;
  readonly credentials: Credentials;
  readonly #notice: BackendNotice;
  readonly #admission: RouteAdmission;
  readonly #ahead: OpenedAhead | undefined;
  readonly #closed = new AbortController();
  #probed = new WeakSet<BackendHost>();
  /** Whether a startup packet may have `role`; undefined before the first login shows it. */
  #takesRole: boolean | undefined;

  private constructor(
    target: BackendTarget,
    credentials: Credentials,
    ahead: number,
    notice: BackendNotice,
    share: RouteShare,
  ) {
    this.#admission = new RouteAdmission(share);
    this.target = target;
    this.credentials = credentials;
    this.#notice = notice;
    // A certificate is issued for a user, who is not known ahead.
    if (ahead > 0 && credentials.method !== 'issue-cert') {
      this.#ahead = new OpenedAhead(
        target,
        ahead,
        () => credentials.secureContext?.('') ?? target.secureContext,
      );
    }
  }

  /**
   * Reads the files that the URL and the options name. Nothing is dialled before
   * {@link Backend.start}.
   *
   * @param share how many unfinished logins may wait for it. Default: any number
   * @throws UsageError for wrong options or parameters; PgError F0000 for files that cannot be used
   */
  static async open(
    url: BackendUrl,
    options: BackendOptions,
    notice: BackendNotice,
    share: RouteShare = { name: '--backend', limit: Number.POSITIVE_INFINITY },
  ): Promise<Backend> {
    const target = await BackendTarget.open(url);
    const credentials = await openCredentials(target, options);
    if (credentials.method === 'trust' && !url.hosts.every(({ host }) => isSocketDirectory(host))) {
      notice(
        'warning',
        '--backend-auth trust over TCP: ' +
          'whoever else reaches the backend from a trusted address gets in as anybody, too',
      );
    }
    return new Backend(target, credentials, options.backendAhead, notice, share);
  }

  /** Begins to open connections ahead. */
  start(): void {
    this.#ahead?.start();
  }

  /**
   * Logs in as the user of the parameters, with the credential of the front-end. Throws as
   * connectAs and {@link RouteAdmission.admit} do.
   */
  async logIn(
    parameters: readonly StartupParameter[],
    signal: AbortSignal,
  ): Promise<BackendSession> {
    const { target, credentials } = this;
    const options = { target, credentials, parameters, ahead: this.#ahead, signal };
    const session = await this.#admission.admit(signal, () => connectAs(options));
    this.#probe(session.address, parameters);
    return session;
  }

  /**
   * Logs in with `role=none`. ALTER ROLE … SET role, or ALTER DATABASE … SET role by an owner,
   * would hide that the user is a superuser, and the user could reset the role later. A parameter
   * of the startup packet overrides those settings (manual 20.1.3). CockroachDB has no such
   * settings and refuses `role` in a startup packet; the first login shows which server it is.
   * Throws as connectAs does.
   */
  async logInWithRoleNone(
    parameters: readonly StartupParameter[],
    signal: AbortSignal,
  ): Promise<BackendSession> {
    if (this.#takesRole === undefined) {
      const session = await this.logIn(parameters, signal);
      this.#takesRole = !session.reported.has('crdb_version');
      if (!this.#takesRole) return session;
      session.channel.destroy();
    }
    return this.logIn(this.#takesRole ? [...parameters, OWN_ROLE] : parameters, signal);
  }

  /**
   * Logs in with the client's credential. Throws as {@link logInNatively} and
   * {@link RouteAdmission.admit} do.
   */
  logInNatively(
    options: Omit<NativeLoginOptions, 'target' | 'ahead'>,
  ): Promise<BackendSession | undefined> {
    const { target } = this;
    return this.#admission.admit(options.signal, () =>
      logInNatively({ ...options, target, ahead: this.#ahead }),
    );
  }

  /**
   * Reads all files again.
   *
   * @throws Error that names the files that cannot be read; what was read before stays in use
   */
  async reload(): Promise<void> {
    const failures: string[] = [];
    for (const owner of [this.target, this.credentials]) {
      try {
        await owner.reload?.();
      } catch (error) {
        failures.push(errorText(error));
      }
    }
    this.#ahead?.renew();
    this.#probed = new WeakSet();
    if (failures.length > 0) throw new Error(failures.join('; '));
  }

  /** Closes the connections opened ahead, and opens no more. Sessions go on. */
  close(): void {
    this.#ahead?.close();
    this.#closed.abort(new Error('the front-end is shutting down'));
  }

  /**
   * After the first login at a host with a certificate, tries to log in without it. A password
   * needs no such test: every login insists that the backend asks for it.
   */
  #probe(host: BackendHost, parameters: readonly StartupParameter[]): void {
    if (!this.credentials.secureContext || this.#probed.has(host)) return;
    this.#probed.add(host);
    const identity = parameters.filter(({ name }) => name === 'user' || name === 'database');
    admitsWithoutCredential(this.target, host, identity, this.#closed.signal).then(
      (admitted) => {
        if (!admitted) return;
        this.#notice(
          'alarm',
          `${formatHost(host)} lets this address in without a certificate, ` +
            `although --backend-auth is ${this.credentials.method}: ` +
            'whoever else is there can log in as anybody; see its pg_hba.conf',
        );
      },
      (error: unknown) => {
        if (this.#closed.signal.aborted) return;
        this.#notice(
          'warning',
          `${formatHost(host)}: whether it asks for a certificate could not be told: ` +
            errorText(error),
        );
      },
    );
  }
}

/** For the whole test. */
const PROBE_TIMEOUT_MS = 10_000;

/**
 * Tests whether a host lets the front-end in without a credential. A server that trusts the address
 * instead of asking for a certificate is otherwise not noticed, and everybody else who reaches it
 * from that address can log in as anybody.
 *
 * @throws Error if the host is away or breaks the protocol; the signal's reason
 */
export async function admitsWithoutCredential(
  target: BackendTarget,
  host: BackendHost,
  parameters: readonly StartupParameter[],
  signal: AbortSignal,
): Promise<boolean> {
  return withDeadline(
    PROBE_TIMEOUT_MS,
    `no answer within ${PROBE_TIMEOUT_MS} ms`,
    signal,
    async (within) => {
      const connection = await dialHost(target, host, within);
      try {
        await write(connection, formatStartup(PROTOCOL_3_0, parameters), within);
        return (await readRequest(connection, within)).code === AUTHENTICATION.ok;
      } catch (error) {
        if (error instanceof BackendRefusal) return false;
        throw error;
      } finally {
        connection.channel.destroy();
      }
    },
  );
}
