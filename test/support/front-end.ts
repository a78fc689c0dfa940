/**
 * A pgsso in this process for end-to-end tests, with an issuer for tests and with the events of its
 * log. Its options are those of `serve`: the command line has tests of its own.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '../../src/observe/log.ts';
import type { ServeOptions } from '../../src/server/options.ts';
import { serve } from '../../src/server/server.ts';
import { keySetText, type Members, mintToken, testKey } from './tokens.ts';

export const ISSUER = 'https://id.example.test';
export const AUDIENCE = 'databases';

/** The startup option that marks a token login, as a psql user writes it. */
export const JWT_OPTION = '--crdb:jwt_auth_enabled=true';

/** An event of the log. */
export type LogEvent = Readonly<Record<string, unknown>>;

/** A front-end that is up. */
export interface FrontEnd {
  readonly port: number;
  /** The port of `metricsListen`, or 0 without it. */
  readonly metricsPort: number;
  /** The directory of the console's socket. */
  readonly dataDir: string;
  /** The events that were logged so far, oldest first. */
  readonly events: readonly LogEvent[];
  /** The first event that has these members. Waits for it if it is not logged yet. */
  event(wanted: LogEvent): Promise<LogEvent>;
  reload(): Promise<void>;
  drain(): Promise<void>;
  /** Drains and removes the data directory. */
  close(): Promise<void>;
}

/** Long enough for one loaded processor. A good test never waits that long. */
const eventTimeoutMs = 30_000;

/** Settings that accept {@link token}. */
export const testSettings: Readonly<Record<string, string>> = {
  'server.jwt_authentication.enabled': 'true',
  'server.jwt_authentication.issuers.configuration': ISSUER,
  'server.jwt_authentication.audience': AUDIENCE,
  'server.jwt_authentication.jwks': keySetText(testKey('RS256')),
  // Tests are refused more often than people are.
  'pgsso.throttle.exempt': '127.0.0.1',
};

/** The options of a process that is told nothing; `listen` has a free port. */
export const testOptions: Omit<ServeOptions, 'dataDir'> = {
  listen: [{ host: '127.0.0.1', port: 0 }],
  workers: 1,
  sourceOf: () => 'environment',
  backendAuth: 'trust',
  backendAhead: 0,
  routes: [],
  superusers: 'refuse',
  reservedUsers: [],
  nativeLogins: 'allow',
  replication: 'deny',
  tcpUserTimeout: 300_000,
  copy: 'auto',
  drainDelay: 0,
  admins: [],
  viewers: [],
  loginTimeout: 30_000,
  maxLogins: 1000,
  maxSessions: 1000,
  drainTimeout: 5000,
  logLevel: 'debug',
  environment: {},
  settings: settingFlags(testSettings),
};

/** As `--set` takes them. */
function settingFlags(settings: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(settings).map(([name, value]) => `${name}=${value}`);
}

/** Starts a front-end for a backend. Settings are added to those for the test issuer. */
export async function startFrontEnd(
  backend: string | undefined,
  options: Partial<Omit<ServeOptions, 'settings' | 'backend'>> & {
    readonly settings?: Readonly<Record<string, string>>;
  } = {},
): Promise<FrontEnd> {
  const dataDir = await mkdtemp(join(tmpdir(), 'pgsso-data-'));
  const events: LogEvent[] = [];
  const log = createLog('json', 'debug', { write: (line) => events.push(JSON.parse(line)) });
  const server = await serve(
    {
      ...testOptions,
      ...(backend !== undefined && { backend }),
      dataDir,
      ...options,
      settings: settingFlags({ ...testSettings, ...options.settings }),
    },
    log,
  );
  return {
    port: server.addresses[0]?.port ?? 0,
    metricsPort: server.metricsAddress?.port ?? 0,
    dataDir,
    events,
    event: (wanted) => findEvent(events, wanted),
    reload: () => server.reload(),
    drain: () => server.drain(),
    async close() {
      await server.drain();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function findEvent(events: readonly LogEvent[], wanted: LogEvent): Promise<LogEvent> {
  const deadline = performance.now() + eventTimeoutMs;
  const members = Object.entries(wanted);
  for (;;) {
    const found = events.find((event) => members.every(([name, value]) => event[name] === value));
    if (found) return found;
    if (performance.now() > deadline) break;
    await sleep(10);
  }
  const logged = events.map((event) => JSON.stringify(event)).join('\n');
  throw new Error(`no event ${JSON.stringify(wanted)} in the log:\n${logged}`);
}

/**
 * Makes a token that {@link startFrontEnd} accepts for `sub` during ten minutes.
 *
 * @param claims added to the usual claims; a claim of the same name is replaced
 */
export function token(sub: string, claims: Members = {}): string {
  const now = Math.floor(Date.now() / 1000);
  return mintToken(testKey('RS256'), {
    iss: ISSUER,
    aud: AUDIENCE,
    sub,
    iat: now,
    exp: now + 600,
    ...claims,
  });
}
