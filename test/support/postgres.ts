/**
 * A PostgreSQL server for tests and the demo: a new cluster in a private temporary directory, on a
 * loopback port and a Unix socket. It ends with this process, however that ends (see guard.ts), and
 * does not keep it alive.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { errorText } from '../../src/lib/errors.ts';
import { type Guard, startGuard } from './guard.ts';
import {
  installPostgres,
  type PostgresVersion,
  type ServerUser,
  serverUser,
} from './postgres-install.ts';
import { makeDataDirectory } from './postgres-template.ts';

/** The options of {@link startPostgres}. */
export interface PostgresOptions {
  /** Default: the newest. */
  readonly version?: PostgresVersion;
  /** Lines of postgresql.conf, values unquoted: `{ log_connections: 'on' }`. */
  readonly conf?: Readonly<Record<string, string>>;
  /**
   * Lines of pg_hba.conf. Default: trust for everybody. The superuser can always log in over the
   * Unix socket, so that {@link Postgres.query} works.
   */
  readonly hba?: readonly string[];
  /** Lines of pg_ident.conf. */
  readonly ident?: readonly string[] | undefined;
  /** PEM texts. Default: TLS is off. */
  readonly ssl?: { readonly cert: string; readonly key: string; readonly ca?: string | undefined };
  /** Statements that the superuser runs after the start. */
  readonly initSql?: readonly string[];
}

/** A running server. */
export interface Postgres {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** Directory of the Unix socket `.s.PGSQL.<port>`. */
  readonly socketDir: string;
  readonly dataDir: string;
  readonly superuser: 'postgres';
  /** `postgres://[user@]127.0.0.1:<port>[/database]`. */
  url(user?: string, database?: string): string;
  /** Runs SQL as the superuser, on a new connection for each call. */
  query(sql: string, values?: unknown[]): Promise<pg.QueryResult>;
  /** The server's log so far. */
  log(): string;
  /** Replaces pg_hba.conf and pg_ident.conf, and reloads the server's configuration. */
  reload(files: Pick<PostgresOptions, 'hba' | 'ident'>): Promise<void>;
  /** Ends the server as `pg_ctl stop -m` does, by default `fast`. It can be restarted. */
  stop(mode?: ShutdownMode): Promise<void>;
  /** Ends the postmaster with SIGKILL. */
  kill(): Promise<void>;
  /** Starts the server on the same port, after a `fast` stop if it is running. */
  restart(): Promise<void>;
  /** Ends the server and removes its files. */
  close(): Promise<void>;
}

/** As in the manual, section "Shutting Down the Server". */
export type ShutdownMode = 'smart' | 'fast' | 'immediate';

const shutdownSignals = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

const testConf = {
  listen_addresses: '127.0.0.1',
  max_connections: '300',
  shared_buffers: '16MB',
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
};

const trustAll = [
  'local all all trust',
  'host all all 127.0.0.1/32 trust',
  'host replication all 127.0.0.1/32 trust',
];

/**
 * Below the ranges from which Linux and macOS choose the local port of a client. Otherwise a client
 * that keeps trying the port of a stopped server could connect to itself.
 */
const ports = { from: 15_000, to: 32_000 };

const startTimeoutMs = 60_000;

/**
 * Makes a cluster and starts it. It takes a quarter of a second, and a second more for the first
 * one of a version.
 *
 * @throws Error with the server's log if it does not start
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const user = serverUser();
  // The real path: the temporary directory of macOS is a link, and a socket's path may have at most
  // 103 bytes there.
  const base = mkdtempSync(join(realpathSync(tmpdir()), 'pgsso-pg-'));
  const guard = startGuard({
    directory: base,
    pidFile: join(base, 'data', 'postmaster.pid'),
    signal: 'QUIT',
  });
  try {
    if (user.uid !== undefined && user.gid !== undefined) chownSync(base, user.uid, user.gid);
    const native = installPostgres(base, user, options.version ?? 18);
    const server = new Server(base, native, user, guard);
    await server.create(options);
    await server.startOnFreePort();
    for (const sql of options.initSql ?? []) await server.query(sql);
    return server;
  } catch (error) {
    await guard.end();
    throw error;
  }
}

class Server implements Postgres {
  readonly host = '127.0.0.1';
  readonly superuser = 'postgres';
  readonly socketDir: string;
  readonly dataDir: string;
  port = 0;
  readonly #logFile: string;
  readonly #native: string;
  readonly #user: ServerUser;
  readonly #guard: Guard;
  #postmaster: ChildProcess | undefined;

  constructor(base: string, native: string, user: ServerUser, guard: Guard) {
    this.socketDir = base;
    this.dataDir = join(base, 'data');
    this.#logFile = join(base, 'log');
    this.#native = native;
    this.#user = user;
    this.#guard = guard;
  }

  async create({ conf, hba, ident, ssl }: PostgresOptions): Promise<void> {
    await makeDataDirectory({
      path: this.dataDir,
      native: this.#native,
      user: this.#user,
      env: serverEnv(),
    });
    if (ssl) {
      this.#write('server.crt', ssl.cert);
      this.#write('server.key', ssl.key);
      if (ssl.ca !== undefined) this.#write('root.crt', ssl.ca);
    }
    const settings = {
      ...testConf,
      unix_socket_directories: this.socketDir,
      ...(ssl && { ssl: 'on' }),
      ...(ssl?.ca !== undefined && { ssl_ca_file: 'root.crt' }),
      ...conf,
    };
    const lines = Object.entries(settings).map(
      ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`,
    );
    this.#write('postgresql.auto.conf', lines.join('\n'));
    this.#writeRules({ hba: hba ?? trustAll, ident });
  }

  async startOnFreePort(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      this.port = randomInt(ports.from, ports.to);
      try {
        return await this.#start();
      } catch (error) {
        if (attempt === 10 || !errorText(error).includes('could not bind')) throw error;
      }
    }
  }

  url(user?: string, database?: string): string {
    const login = user === undefined ? '' : `${encodeURIComponent(user)}@`;
    const path = database === undefined ? '' : `/${encodeURIComponent(database)}`;
    return `postgres://${login}${this.host}:${this.port}${path}`;
  }

  async query(sql: string, values?: unknown[]): Promise<pg.QueryResult> {
    const client = new pg.Client({
      host: this.socketDir,
      port: this.port,
      user: this.superuser,
      database: 'postgres',
      ssl: false,
    });
    await client.connect();
    try {
      return await client.query(sql, values);
    } finally {
      await client.end();
    }
  }

  log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  async reload(files: Pick<PostgresOptions, 'hba' | 'ident'>): Promise<void> {
    this.#writeRules(files);
    const before = await this.#loadedAt();
    this.#postmaster?.kill('SIGHUP');
    while ((await this.#loadedAt()) === before) await sleep(5);
  }

  async stop(mode: ShutdownMode = 'fast'): Promise<void> {
    await this.#end(shutdownSignals[mode]);
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.#start();
  }

  async close(): Promise<void> {
    await this.#guard.end();
  }

  async #start(): Promise<void> {
    const log = openSync(this.#logFile, 'w', 0o644);
    // In a session of its own, so that Ctrl-C in a terminal ends this process first. The guard ends
    // the server.
    const postmaster = spawn(
      join(this.#native, 'bin', 'postgres'),
      ['-D', this.dataDir, '-p', String(this.port)],
      {
        ...this.#user,
        cwd: this.socketDir,
        env: serverEnv(),
        stdio: ['ignore', log, log],
        detached: true,
      },
    );
    closeSync(log);
    postmaster.unref();
    await once(postmaster, 'spawn');
    const deadline = Date.now() + startTimeoutMs;
    while (this.#pidFile(8) !== 'ready' || this.#pidFile(1) !== String(postmaster.pid)) {
      if (postmaster.exitCode !== null || postmaster.signalCode !== null)
        throw new Error(`PostgreSQL did not start:\n${this.log()}`);
      if (Date.now() > deadline)
        throw new Error(`PostgreSQL was not ready after ${startTimeoutMs} ms:\n${this.log()}`);
      await sleep(10);
    }
    this.#postmaster = postmaster;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const postmaster = this.#postmaster;
    this.#postmaster = undefined;
    if (!postmaster || postmaster.exitCode !== null || postmaster.signalCode !== null) return;
    postmaster.ref();
    postmaster.kill(signal);
    await once(postmaster, 'exit');
  }

  /** A line of postmaster.pid, counted from 1. Line 8 is the state that pg_ctl waits for. */
  #pidFile(line: number): string | undefined {
    try {
      return readFileSync(join(this.dataDir, 'postmaster.pid'), 'utf8')
        .split('\n')
        [line - 1]?.trim();
    } catch {
      return undefined; // It is not written yet.
    }
  }

  async #loadedAt(): Promise<string> {
    const { rows } = await this.query('SELECT pg_conf_load_time()::text AS at');
    return rows[0].at;
  }

  #writeRules({ hba, ident }: Pick<PostgresOptions, 'hba' | 'ident'>): void {
    if (hba) this.#write('pg_hba.conf', ['local all postgres trust', ...hba].join('\n'));
    if (ident) this.#write('pg_ident.conf', ident.join('\n'));
  }

  #write(name: string, text: string): void {
    const path = join(this.dataDir, name);
    writeFileSync(path, `${text}\n`);
    chmodSync(path, 0o600);
    if (this.#user.uid !== undefined && this.#user.gid !== undefined)
      chownSync(path, this.#user.uid, this.#user.gid);
  }
}

/** Without the PG… variables of this process, and with messages in English. */
function serverEnv(): NodeJS.ProcessEnv {
  const { PATH } = process.env;
  return { PATH, LC_ALL: 'C', TZ: 'UTC' };
}
