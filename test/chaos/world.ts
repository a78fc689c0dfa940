/** What the faults of chaos.ts share: one PostgreSQL, processes of pgsso, floods and waiting. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { logInOnce, quantile } from '../support/clients.ts';
import { type FaultyProxy, startProxy } from '../support/faulty-proxy.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';
import {
  type ServeProcess,
  type ServeProcessOptions,
  startServe,
} from '../support/serve-process.ts';

/** The outcome of one fault: whether the promise was kept, and the measured figure. */
export interface Outcome {
  readonly isKept: boolean;
  readonly measured: string;
}

/** A world is opened once. Each fault closes what it opens, by {@link World.close}. */
export class World {
  readonly database: Postgres;
  readonly #closers: (() => unknown)[] = [];

  private constructor(database: Postgres) {
    this.database = database;
  }

  static async open(): Promise<World> {
    return new World(
      await startPostgres({
        initSql: [
          'CREATE ROLE alice LOGIN',
          'CREATE ROLE bob LOGIN',
          'CREATE ROLE boss LOGIN',
          'CREATE ROLE readers',
          'CREATE ROLE keeper LOGIN CREATEROLE NOINHERIT',
          'GRANT readers TO keeper WITH ADMIN OPTION',
          'CREATE DATABASE settings OWNER keeper',
          'CREATE DATABASE frozen',
        ],
      }),
    );
  }

  /** Remembers what has to be closed behind the fault. */
  closing<T extends { close(): unknown }>(opened: T): T {
    this.#closers.push(() => opened.close());
    return opened;
  }

  /** Closes what the fault opened. */
  async closeFault(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  async close(): Promise<void> {
    await this.closeFault();
    await this.database.close();
  }

  /** The URL of the database for a user, by way of another port if there is one. */
  url(port = this.database.port, user?: string, database?: string): string {
    const login = user === undefined ? '' : `${user}@`;
    return `postgres://${login}127.0.0.1:${port}/${database ?? ''}?sslmode=disable`;
  }

  /** A proxy, by default in front of the database. */
  async proxy(target = this.database.port): Promise<FaultyProxy> {
    return this.closing(await startProxy(target));
  }

  /** A pgsso for the database, with more options. */
  async serve(given: ServeProcessOptions = {}): Promise<ServeProcess> {
    const options = given.options ?? [];
    const backend = options.includes('--backend') ? [] : ['--backend', this.url()];
    return this.closing(await startServe({ ...given, options: [...backend, ...options] }));
  }

  /** A port that accepts connections and never answers. */
  async silentServer(): Promise<number> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined).resume();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.closing({
      close() {
        server.close();
        for (const socket of sockets) socket.destroy();
      },
    });
    return (server.address() as AddressInfo).port;
  }
}

/** Failures after which a promise is broken for certain. */
const FAILURE_LIMIT = 3;

/** The times of some logins one after the other, and what went wrong. */
export class Logins {
  readonly times: number[] = [];
  readonly errors: string[] = [];

  /** Logs in so many times. A login may take 10 s. Gives up after some failures. */
  async run(times: number, port: number, user = 'alice', password?: string): Promise<this> {
    for (let i = 0; i < times && this.errors.length < FAILURE_LIMIT; i++) {
      try {
        const options = { port, user, timeoutMs: 10_000 };
        this.times.push(
          await logInOnce(password === undefined ? options : { ...options, password }),
        );
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        this.errors.push(`${code ?? ''} ${message}`.trim());
      }
    }
    return this;
  }

  /** Kept if no login failed: none took the 10 s that it may. */
  succeeded(): Outcome {
    return { isKept: this.errors.length === 0, measured: this.toString() };
  }

  /** Kept if no login failed and the slowest hundredth took no longer than this. */
  within(ms: number): Outcome {
    return { isKept: this.errors.length === 0 && this.p99 <= ms, measured: this.toString() };
  }

  get p99(): number {
    return quantile(this.times, 0.99);
  }

  toString(): string {
    const all = this.times.length + this.errors.length;
    const failed = this.errors[0] === undefined ? '' : ` (${this.errors[0]})`;
    const times = `p50 ${formatMs(quantile(this.times, 0.5))}, p99 ${formatMs(this.p99)}`;
    return `${this.times.length} of ${all} logins${failed}, ${times}`;
  }
}

/** Opens connections at a rate until it is stopped, from an address of its own. */
export class Flood {
  readonly #sockets = new Set<Socket>();
  readonly #timer: NodeJS.Timeout;
  opened = 0;

  /** @param send what each connection sends at once; undefined: nothing */
  constructor(port: number, perSecond: number, send?: () => Buffer, from = '127.0.0.2') {
    const tickMs = 10;
    let due = 0;
    this.#timer = setInterval(() => {
      for (due += (perSecond * tickMs) / 1000; due >= 1; due--) {
        const socket = connect({ port, host: '127.0.0.1', localAddress: from });
        this.opened++;
        this.#sockets.add(socket);
        if (send) socket.write(send());
        socket.on('error', () => undefined);
        socket.on('close', () => this.#sockets.delete(socket));
        socket.resume();
      }
    }, tickMs);
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }
}

/** The milliseconds until the condition holds; undefined if it does not within the patience. */
export async function waitFor(
  patienceMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<number | undefined> {
  const start = performance.now();
  for (; performance.now() - start < patienceMs; await sleep(50))
    if (await condition()) return performance.now() - start;
  return undefined;
}

/** Milliseconds for a report; `never` if it did not come about. */
export function formatMs(ms: number | undefined): string {
  return ms === undefined ? 'never' : `${ms.toFixed(0)} ms`;
}
