/** A console in memory for tests, with its services, a settings file and sessions. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ApiKeyUses } from '../../src/auth/api-keys.ts';
import { Authenticator } from '../../src/auth/authenticator.ts';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import { MemoryBudget } from '../../src/console/memory.ts';
import { Operators, type Role } from '../../src/console/operators.ts';
import { type ConsoleServices, ConsoleSession, type Outcome } from '../../src/console/session.ts';
import { parseQueryText } from '../../src/console/statements/grammar.ts';
import { noEvents, staticKeys } from '../../src/keys/key-source.ts';
import { createLog } from '../../src/observe/log.ts';
import { Metrics } from '../../src/observe/metrics.ts';
import { SessionRegistry } from '../../src/session/registry.ts';
import { FileStore } from '../../src/settings/store/file-store.ts';

const NOW = Date.UTC(2026, 10, 23, 12);

/** A console in memory. */
export interface World {
  readonly services: ConsoleServices & { readonly metrics: Metrics };
  /** The lines of its log. */
  readonly logged: string[];
  /** Opens a session; the role is admin by default. */
  session(role?: Role): ConsoleSession;
  /** Runs the statements of a text and returns the outcome of the last one. */
  run(text: string, session?: ConsoleSession, parameters?: readonly string[]): Promise<Outcome>;
}

/** Makes a console. It is closed when the test file ends. */
export async function makeConsole(): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'pgsso-console-'));
  const settings = await FileStore.open({
    directory,
    processDefaults: new Map(),
    now: () => NOW,
    onProblem: () => undefined,
  });
  t.teardown(async () => {
    await settings.close();
    await rm(directory, { recursive: true, force: true });
  });
  const logged: string[] = [];
  const apiKeyUses = new ApiKeyUses();
  const services: World['services'] = {
    settings,
    authenticator: new Authenticator({
      keys: staticKeys,
      verified: new VerifiedTokens(() => NOW),
      exchange: async (request) => request,
      events: noEvents,
      apiKeyUses,
      now: () => NOW,
      reservedUsers: [],
      superusers: 'refuse',
    }),
    keys: staticKeys,
    directory: undefined,
    apiKeyUses,
    sessions: new SessionRegistry(),
    copy: { name: 'handles' },
    metrics: new Metrics(NOW),
    operators: new Operators(['alice'], ['vera']),
    version: '1.2.3',
    now: () => NOW,
    log: createLog('json', 'trace', { write: (line) => logged.push(line) }),
  };
  const memory = MemoryBudget.ofProcess();
  const session = (role: Role = 'admin'): ConsoleSession =>
    new ConsoleSession({ name: 'alice', role, client: '::1' }, services, memory);
  const usual = session();
  return {
    services,
    logged,
    session,
    async run(text, on = usual, parameters = []) {
      let outcome: Outcome = {};
      for (const statement of parseQueryText(text))
        outcome = await on.execute(statement, parameters);
      return outcome;
    },
  };
}
