/**
 * A pgsso in this process for end-to-end tests, with a key of its own and the events of its log at
 * hand. What the command line does with its options is tested apart; here they are given as `serve`
 * takes them.
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

/** The option that makes a login a token login, as psql is given it. */
export const JWT_OPTION = '--crdb:jwt_auth_enabled=true';

/** An event of the log. */
export type LogEvent = Readonly<Record<string, unknown>>;

/** A front-end that is up. */
export interface FrontEnd {
  readonly port: number;
  /** Of `metricsListen`; 0 without. */
  readonly metricsPort: number;
  /** Where the console's socket lies. */
  readonly dataDir: string;
  /** What was logged so far, oldest first. */
  readonly events: readonly LogEvent[];
  /** The next event that matches, or one that is there already. */
  event(wanted: LogEvent): Promise<LogEvent>;
  reload(): Promise<void>;
  drain(): Promise<void>;
  /** Drains and removes the data directory. */
  close(): Promise<void>;
}

/** Settings with which {@link token} is let in. */
const settings: Readonly<Record<string, string>> = {
  'server.jwt_authentication.enabled': 'true',
  'server.jwt_authentication.issuers.configuration': ISSUER,
  'server.jwt_authentication.audience': AUDIENCE,
  'server.jwt_authentication.jwks': keySetText(testKey('RS256')),
};

/** Starts a front-end for a backend; settings are added to those of the tests' issuer. */
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
      listen: [{ host: '127.0.0.1', port: 0 }],
      ...(backend !== undefined && { backend }),
      sourceOf: () => 'environment',
      backendAuth: 'trust',
      backendAhead: 0,
      routes: [],
      dataDir,
      superusers: 'refuse',
      reservedUsers: [],
      nativeLogins: 'allow',
      admins: [],
      viewers: [],
      loginTimeout: 30_000,
      maxLogins: 1000,
      maxSessions: 1000,
      drainTimeout: 5000,
      logLevel: 'debug',
      environment: {},
      ...options,
      settings: Object.entries({ ...settings, ...options.settings }).map(
        ([name, value]) => `${name}=${value}`,
      ),
    },
    log,
  );
  return {
    port: server.addresses[0]?.port ?? 0,
    metricsPort: server.metricsAddress?.port ?? 0,
    dataDir,
    events,
    async event(wanted) {
      for (let tries = 0; tries < 500; tries++) {
        const found = events.find((event) =>
          Object.entries(wanted).every(([name, value]) => event[name] === value),
        );
        if (found) return found;
        await sleep(10);
      }
      throw new Error(
        `no event ${JSON.stringify(wanted)} in the log:\n${events.map((event) => JSON.stringify(event)).join('\n')}`,
      );
    },
    reload: () => server.reload(),
    drain: () => server.drain(),
    async close() {
      await server.drain();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/**
 * A token that the front-end of {@link startFrontEnd} lets in as `sub`, for ten minutes; `claims`
 * adds to or replaces its claims.
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
