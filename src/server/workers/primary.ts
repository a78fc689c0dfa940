/**
 * The primary process of a node with several workers. It has what there is once: the settings, the
 * keys of the issuers, the console, the port for metrics, and the counts behind the limits. It
 * takes no clients, and no login waits for it as long as a worker has what it needs.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { newRelaySecret, RelayReader } from '../../console/relay.ts';
import { overWithin } from '../../lib/abort.ts';
import type { Log } from '../../observe/log.ts';
import type { ListenAddress } from '../../session/listener.ts';
import type { Counted } from '../../session/throttle.ts';
import { Closing } from '../closing.ts';
import type { ServeOptions } from '../options.ts';
import { type NodeState, OperatorPorts } from '../ports.ts';
import { Reloads } from '../reloads.ts';
import { logReady, type RunningServer } from '../server.ts';
import { type NodeServices, openDirectoryOf, openNode } from '../services.ts';
import { type Answers, Outbox } from './link.ts';
import type { HostName, PrimaryQuestions, Welcome, WorkerNews, WorkerOptions } from './messages.ts';
import { type PoolWorker, WorkerPool } from './pool.ts';
import { Publisher, publishedSettings } from './publisher.ts';
import { LoginLedger, SessionPlaces } from './shares.ts';
import { WorkersView } from './view.ts';

/**
 * How long the sessions of a drain may take beyond the drain timeout, in ms: a worker empties its
 * queues and cuts what is left (front.ts). One that takes longer is frozen.
 */
const DRAINED_MS = 2200;

/** How long a worker may take to close what it has, in ms, while this process closes its own. */
const CLOSED_MS = 2500;

/** How long a worker may take to read its files again, in ms. */
const RELOAD_MS = 30_000;

/** How long a worker may take to say whether it has a cancel key, in ms. */
const HOLDERS_MS = 2000;

/** Connections that a worker can accept between its last report and its end. */
const SKIPPED_NUMBERS = 100_000;

/** What counts for the throttle and waits to be told to a worker. More of them are not told. */
const WAITING_LIMIT = 1000;

/**
 * Starts the primary process and its workers.
 *
 * @throws UsageError for options that cannot be right; Error with one line for what cannot be used
 */
export async function serveWithWorkers(options: ServeOptions, log: Log): Promise<RunningServer> {
  const closing = new Closing(log);
  const primary = new Primary(options, log, closing);
  try {
    await primary.start();
    return primary;
  } catch (error) {
    primary.close();
    await closing.close();
    throw error;
  }
}

/** What is to be told to one worker. */
interface Mail {
  readonly outbox: Outbox;
  evicted: number[];
  counted: Counted[];
}

class Primary implements RunningServer {
  readonly #options: ServeOptions;
  readonly #log: Log;
  readonly #closing: Closing;
  readonly #pool: WorkerPool;
  readonly #publisher: Publisher;
  readonly #view: WorkersView;
  readonly #places: SessionPlaces;
  readonly #logins: LoginLedger;
  readonly #mail = new WeakMap<PoolWorker, Mail>();
  readonly #secret = newRelaySecret();
  /** By slot: the number of the last connection that a worker has reported. */
  readonly #lastSessions = new Map<number, number>();
  #node!: NodeServices;
  #ports!: OperatorPorts;
  #reloads!: Reloads;
  #addresses: readonly ListenAddress[] = [];
  #state: NodeState = 'starting';
  #drained: Promise<void> | undefined;

  constructor(options: ServeOptions, log: Log, closing: Closing) {
    const { workers, maxSessions } = options;
    this.#options = options;
    this.#log = log;
    this.#closing = closing;
    this.#pool = new WorkerPool({
      workers,
      log,
      answersTo: (worker) => this.#answers(worker),
      ended: (worker) => this.#ended(worker),
    });
    this.#publisher = new Publisher(() => this.#pool.welcome, log);
    this.#view = new WorkersView(this.#pool, workers, log);
    this.#places = new SessionPlaces(maxSessions, workers);
    this.#logins = new LoginLedger(options, (worker, id) => this.#evict(worker, id));
  }

  get addresses(): readonly ListenAddress[] {
    return this.#addresses;
  }

  get metricsAddress(): ListenAddress | undefined {
    return this.#ports.metricsAddress;
  }

  async start(): Promise<void> {
    const log = this.#log;
    const directory = await openDirectoryOf(this.#options, this.#closing);
    this.#node = await openNode(this.#options, directory, log, this.#closing, {
      sessions: this.#view,
      figures: this.#view,
      publish: (store) => publishedSettings(store, this.#publisher),
      keysChanged: (state) => this.#publisher.publishKeys(state),
    });
    const { fetchedKeys, settings, metrics, reloadables } = this.#node;
    this.#reloads = new Reloads(reloadables, log);
    this.#ports = new OperatorPorts(this.#options, this.#node, log, this.#closing);
    fetchedKeys.start(() => settings.current.values);
    this.#view.start(metrics);
    await this.#ports.openMetrics(this.#view, () => this.#state);
    const relays = new RelayReader(this.#secret);
    await this.#ports.openConsole(relays);
    this.#addresses = await this.#pool.start(async ([address]) => {
      if (address) await this.#ports.firstListens(address, relays);
    });
    this.#closing.add('files', this.#reloads);
    this.#state = 'listening';
    const { workers } = this.#options;
    logReady(log, this.#addresses, { copy: this.#node.copy.name, workers });
  }

  async reload(): Promise<void> {
    const workers = this.#pool.ready.map(({ link }) =>
      link.ask('reload', undefined, RELOAD_MS).catch(() => undefined),
    );
    await Promise.all([this.#reloads.reload(), ...workers]);
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain();
    return this.#drained;
  }

  async #drain(): Promise<void> {
    const { drainDelay, drainTimeout } = this.#options;
    const { console } = this.#node;
    this.#state = 'draining';
    this.#pool.stop();
    const workers = this.#pool.running;
    const undrained = new Set(workers);
    const drained = Promise.all(
      workers.map(async (worker) => {
        if (worker.state !== 'ready') return;
        await worker.link.ask('drain', undefined, 0).catch(() => undefined);
        undrained.delete(worker);
      }),
    );
    if (drainDelay > 0) await sleep(drainDelay);
    // The console's socket stays open: an operator can list the remaining sessions and end them.
    console.drain();
    await overWithin(drainTimeout + DRAINED_MS, drained);
    this.#state = 'closing';
    this.#reloads.end();
    // The socket waits for its operators, whose connections the console ends.
    console.close();
    // They are frozen, or have not started yet.
    for (const worker of undrained) worker.kill();
    const exited = Promise.all(workers.map((worker) => worker.exited));
    await Promise.all([overWithin(CLOSED_MS, exited), this.#closing.close()]);
    this.close();
    this.#log.info({ event: 'shutdown' }, 'stopped');
  }

  /** Ends all workers at once. */
  close(): void {
    this.#view.close();
    this.#pool.close();
  }

  #answers(worker: PoolWorker): Omit<Answers<PrimaryQuestions>, 'ready' | 'failed'> {
    return {
      hello: () => this.#welcome(worker),
      news: (news) => this.#hear(worker, news),
      borrow: () => this.#places.borrow(worker, this.#othersThan(worker)),
      keys: (asked) => this.#publisher.keysFor(this.#node.fetchedKeys, asked),
      holders: (packet) => this.#holders(worker, packet),
    };
  }

  #othersThan(worker: PoolWorker): readonly PoolWorker[] {
    return this.#pool.ready.filter((other) => other !== worker);
  }

  #welcome(worker: PoolWorker): Welcome {
    const { fetchedKeys, settings } = this.#node;
    const { slot } = worker;
    const last = this.#lastSessions.get(slot);
    const skipped = SKIPPED_NUMBERS * this.#options.workers;
    // From now on it is told of every change.
    worker.state = 'welcome';
    return {
      options: this.#workerOptions(),
      slot,
      firstSession: last === undefined ? slot + 1 : last + skipped,
      sessions: this.#places.first(worker),
      settings: this.#publisher.current,
      keys: fetchedKeys.states(settings.current.values),
      consoleSecret: this.#secret,
    };
  }

  #workerOptions(): WorkerOptions {
    const { sourceOf, environment: _, ...options } = this.#options;
    const sources = {
      backend: sourceOf('backend'),
      route: sourceOf('route'),
      directory: sourceOf('directory'),
      settings: sourceOf('settings'),
    };
    return { ...options, sources };
  }

  #hear(worker: PoolWorker, news: WorkerNews): void {
    const { apiKeyUses, directory } = this.#node;
    this.#logins.note(worker, news);
    for (const [digest, at] of news.keyUses) apiKeyUses.note({ digest }, at);
    for (const [user, at] of news.logins) directory?.noteLogin(user, at);
    if (news.counted.length === 0) return;
    for (const other of this.#othersThan(worker)) {
      const mail = this.#mailOf(other);
      mail.counted.push(...news.counted.slice(0, WAITING_LIMIT - mail.counted.length));
      mail.outbox.collected(0);
    }
  }

  #evict(worker: PoolWorker, id: number): void {
    const mail = this.#mailOf(worker);
    mail.evicted.push(id);
    mail.outbox.collected(0);
  }

  #mailOf(worker: PoolWorker): Mail {
    const known = this.#mail.get(worker);
    if (known) return known;
    const send = (): Promise<void> => {
      const { evicted, counted } = mail;
      mail.evicted = [];
      mail.counted = [];
      return worker.link.ask('news', { evicted, counted }, 0);
    };
    const mail: Mail = { outbox: new Outbox(send), evicted: [], counted: [] };
    this.#mail.set(worker, mail);
    return mail;
  }

  /** Asks the other workers which hosts have issued the key of a cancel request. */
  async #holders(worker: PoolWorker, packet: Uint8Array): Promise<readonly HostName[] | undefined> {
    const answers = await Promise.all(
      this.#othersThan(worker).map(({ link }) =>
        link.ask('holders', packet, HOLDERS_MS).catch(() => undefined),
      ),
    );
    const known = answers.filter((hosts) => hosts !== undefined);
    return known.length > 0 ? known.flat() : undefined;
  }

  #ended(worker: PoolWorker): void {
    const { slot, report } = worker;
    this.#places.ended(worker);
    this.#logins.ended(worker);
    if (report) this.#lastSessions.set(slot, report.lastSession);
    if (this.#state === 'listening') this.#view.workerEnded(worker);
  }
}
