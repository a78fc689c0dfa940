/**
 * The program of a worker process: it accepts clients, logs them in and copies their sessions.
 * Settings, keys, the console and the counts of the node are in the primary process (primary.ts),
 * which it asks for them. It runs until its node drains it. Without its primary process it ends at
 * once, since nobody could change its settings or end its sessions any more.
 */
import cluster from 'node:cluster';
import { resolve } from 'node:path';
import type { CancelDestination } from '../../backend/cancel.ts';
import type { Routes } from '../../backend/routes.ts';
import { formatHost } from '../../backend/url.ts';
import { ConsoleRelay } from '../../console/relay.ts';
import { consoleSocketPath } from '../../console/socket.ts';
import { type KeyEvents, noEvents } from '../../keys/key-source.ts';
import { errorText, UsageError } from '../../lib/errors.ts';
import { createLog, type Log } from '../../observe/log.ts';
import { Metrics } from '../../observe/metrics.ts';
import { CancelKeys } from '../../session/cancel.ts';
import { chooseCopy } from '../../session/copy-choice.ts';
import { SessionRegistry } from '../../session/registry.ts';
import { type Counted, throttleSettings } from '../../session/throttle.ts';
import { Closing, logWritten } from '../closing.ts';
import { Front } from '../front.ts';
import { type ServeOptions, version } from '../options.ts';
import { openWorkerProviders } from '../providers.ts';
import { Reloads } from '../reloads.ts';
import {
  createAuthenticator,
  type FrontServices,
  openDirectoryOf,
  openFront,
  operatorsOf,
  sessionServices,
  warnOfKey,
} from '../services.ts';
import { type Answers, Link, type Port } from './link.ts';
import type {
  HostName,
  NodeNews,
  PrimaryQuestions,
  Welcome,
  WorkerQuestions,
  WorkerReport,
} from './messages.ts';
import { CollectedNews } from './news.ts';
import { WorkerSettings } from './worker-settings.ts';

/** How long the primary may take to lend places of sessions, in ms. */
const BORROW_MS = 3000;

/** How long it may take to find the holder of a cancel key, in ms. */
const HOLDERS_MS = 3000;

/** Sessions in one answer. */
const PAGE = 500;

class Worker {
  readonly #link: Link<PrimaryQuestions, WorkerQuestions>;
  readonly #news: CollectedNews;
  readonly #parts: Promise<Parts>;
  #opened!: (parts: Parts) => void;

  constructor() {
    this.#parts = new Promise((resolve) => {
      this.#opened = resolve;
    });
    this.#link = new Link(process as Port, this.#answers());
    this.#news = new CollectedNews((news) => this.#link.ask('news', news, 0));
  }

  /** Listens, or tells the primary why it cannot. Returns whether it listens. Never rejects. */
  async start(): Promise<boolean> {
    try {
      const parts = await this.#open(await this.#link.ask('hello', undefined, 0));
      const { front, closing, reloads } = parts;
      this.#opened(parts);
      await front.listen(closing);
      closing.add('files', reloads);
      await this.#link.ask('ready', front.addresses, 0);
      return true;
    } catch (error) {
      const failure = { text: errorText(error), isUsage: error instanceof UsageError };
      await this.#link.ask('failed', failure, 0).catch(() => undefined);
      return false;
    }
  }

  /** Opens what the sessions need. What is told meanwhile waits for it. */
  async #open(welcome: Welcome): Promise<Parts> {
    const { slot, sessions } = welcome;
    const options = ownOptions(welcome);
    const { workers, logFormat = 'json', logLevel } = options;
    const log = createLog(logFormat, logLevel).child({ worker: cluster.worker?.id });
    const closing = new Closing(log);
    const settings = new WorkerSettings(options, welcome.settings);
    // What the workers have in common is said by the first one.
    const isFirst = slot === 0;
    const directory = await openDirectoryOf(options, closing);
    const frontLog = isFirst ? log : log.child({}, { level: 'error' });
    const front = await openFront(options, directory, frontLog);
    if (isFirst) warnOfKey(front, log);
    const metrics = new Metrics(Date.now());
    if (options.metricsListen) metrics.watchProcess(version);
    const providers = openWorkerProviders(options, keyEvents(metrics), (question, origin) =>
      this.#link.ask('keys', { question, origin }, 0),
    );
    closing.add('identity providers', providers);
    for (const state of welcome.keys) await providers.fetched.adopt(state);
    const registry = new SessionRegistry();
    const sources = {
      settings,
      authenticator: createAuthenticator(options, providers, directory, this.#news),
      deviceAuthorization: providers.deviceAuthorization,
      directory: directory?.directory,
      copy: await chooseCopy(options.copy),
      noteLogin: (user: string, at: number): void => {
        if (directory) this.#news.noteUser(user, at);
      },
      console: new ConsoleRelay({
        operators: operatorsOf(options),
        secret: welcome.consoleSecret,
        path: () => consoleSocketPath(resolve(options.dataDir), firstPort()),
        log,
      }),
      metrics,
      registry,
      cancelKeys: new CancelKeys((packet) => this.#holders(front.routes, packet)),
      limits: {
        workers,
        sessions,
        borrowSessions: () => this.#link.ask('borrow', undefined, BORROW_MS).catch(() => 0),
        noteLogin: (address: string, evict: () => void) => this.#news.noteLogin(address, evict),
      },
      throttle: { workers, counted: (one: Counted) => this.#news.counted(one) },
    };
    const services = sessionServices(options, front, sources, log, closing);
    const numbering = { first: welcome.firstSession, step: workers };
    const clients = new Front(options, services, log, numbering);
    const firstPort = (): number => clients.addresses[0]?.port ?? 0;
    const reloads = new Reloads([...services.reloadables, ...(directory ? [directory] : [])], log);
    const keys = providers.fetched;
    return { settings, keys, services, registry, front: clients, reloads, closing, log };
  }

  #answers(): Answers<WorkerQuestions> {
    const parts = this.#parts;
    return {
      settings: async (shared) => {
        const { settings, keys } = await parts;
        settings.adopt(shared);
        keys.forgetOthers(settings.current.values);
      },
      keys: async (state) => (await parts).keys.adopt(state),
      news: async (news) => this.#hear(await parts, news),
      lend: async () => (await parts).services.limits.lendSessions(),
      holders: async (packet) => {
        const { cancelKeys, routes } = (await parts).services;
        return cancelKeys.find(Buffer.from(packet))?.map((holder) => nameOf(routes, holder));
      },
      sessions: async (after) => (await parts).registry.page(after, PAGE),
      cancel: async (id) => (await parts).registry.cancel(id),
      report: async () => this.#report(await parts),
      reload: async () => (await parts).reloads.reload(),
      drain: async () => this.#drain(await parts),
    };
  }

  #hear({ services }: Parts, { evicted, counted }: NodeNews): void {
    for (const id of evicted) this.#news.evict(id);
    const settings = throttleSettings(services.settings.current.values);
    for (const one of counted) services.throttle.count(one, settings);
  }

  async #report({ services, registry, front }: Parts): Promise<WorkerReport> {
    const metrics = await services.metrics.report();
    return { metrics, sessions: registry.size, lastSession: front.lastNumber };
  }

  /** The process ends by itself behind the answer. */
  async #drain({ front, reloads, closing, log }: Parts): Promise<void> {
    await front.stopAccepting();
    await front.sessionsOver();
    reloads.end();
    void closing.close().then(() => exit(log));
  }

  /** Asks whether another worker has the session of a cancel request. */
  async #holders(routes: Routes, packet: Buffer): Promise<CancelDestination[] | undefined> {
    const holders = await this.#link.ask('holders', packet, HOLDERS_MS).catch(() => undefined);
    return holders?.flatMap((name) => destinationOf(routes, name));
  }
}

/** What a worker consists of. */
interface Parts {
  readonly settings: WorkerSettings;
  readonly keys: ReturnType<typeof openWorkerProviders>['fetched'];
  readonly services: FrontServices;
  readonly registry: SessionRegistry;
  readonly front: Front;
  readonly reloads: Reloads;
  readonly closing: Closing;
  readonly log: Log;
}

/** The options of the node, with the worker's part of the connections that are opened ahead. */
function ownOptions({ options: { sources, ...options }, slot }: Welcome): ServeOptions {
  const { workers, backendAhead } = options;
  return {
    ...options,
    backendAhead: Math.floor(backendAhead / workers) + (slot < backendAhead % workers ? 1 : 0),
    environment: process.env,
    sourceOf: (option) => sources[option],
  };
}

/** What a worker counts of keys. The rest is logged where they are fetched. */
function keyEvents(metrics: Metrics): KeyEvents {
  return {
    ...noEvents,
    refetchRefused: (issuer) => metrics.keyRefetchRefused(issuer),
    verified: (known) => metrics.signature(known),
  };
}

/** All workers have the same routes, in the same order. */
function nameOf({ all }: Routes, { target, address }: CancelDestination): HostName {
  const route = all.findIndex(({ backend }) => backend.target === target);
  return { route, host: formatHost(address) };
}

function destinationOf({ all }: Routes, { route, host }: HostName): CancelDestination[] {
  const target = all[route]?.backend.target;
  if (!target) return [];
  return target.url.hosts
    .filter((address) => formatHost(address) === host)
    .map((address) => ({ target, address }));
}

async function exit(log: Log): Promise<void> {
  await logWritten(log);
  process.exit(0);
}

// A supervisor or a terminal may send signals to all processes of the node. The primary process
// says what is to be done.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(1));
if (!(await new Worker().start())) process.exit(1);
