/**
 * One operator at the console: who he is, the transaction he is in, the variables that his driver
 * has set. Changes of settings inside a transaction wait for COMMIT and are then made at once, all
 * or none.
 */

import type { ApiKeyUses } from '../auth/api-keys.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import type { Directory } from '../directory/directory.ts';
import type { KeySource } from '../keys/key-source.ts';
import { PgError } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import type { Statistics } from '../observe/metrics.ts';
import type { SessionRegistry } from '../session/registry.ts';
import type { ApiKeyChange } from '../settings/api-keys.ts';
import type { SettingChange } from '../settings/changes.ts';
import { REDACTED } from '../settings/changes.ts';
import { definitions, type SettingName } from '../settings/definitions.ts';
import { parseSetting } from '../settings/lookup.ts';
import type { SettingState, SettingsSnapshot } from '../settings/snapshot.ts';
import type { SettingsStore } from '../settings/store/store.ts';
import { settingWarnings } from '../settings/warnings.ts';
import { checkPrivilege, type Operators, type Requirement, type Role } from './operators.ts';
import type { Cell, Column } from './results.ts';
import { type SessionVariables, sessionVariables } from './variables.ts';

/** What the statements work on. */
export interface ConsoleServices {
  readonly settings: SettingsStore;
  readonly authenticator: Authenticator;
  readonly keys: KeySource;
  /** Knows whom it created and granted roles; undefined without `--directory`. */
  readonly directory: Directory | undefined;
  readonly apiKeyUses: ApiKeyUses;
  readonly sessions: SessionRegistry;
  readonly statistics: Statistics;
  readonly operators: Operators;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: Log;
}

/** What a statement has done. */
export interface Outcome {
  readonly rows?: readonly (readonly Cell[])[];
  /** Each becomes a WARNING. */
  readonly warnings?: readonly string[];
  /** The command tag, if it is not the statement's own. */
  readonly tag?: string;
}

/** A statement that can be run, any number of times. */
export interface Statement {
  /** The tag of CommandComplete; a SELECT adds its number of rows. */
  readonly tag: string;
  /** None: it returns no rows. */
  readonly columns: readonly Column[];
  /** What is needed to run it; undefined for what says nothing about anything. */
  readonly requires: Requirement | undefined;
  /** Whether it runs in a transaction that has failed, and ends it. */
  readonly endsTransaction?: true;
  /** The highest parameter that is used. */
  readonly parameterCount: number;
  /** @throws PgError, in which case nothing was changed */
  run(session: ConsoleSession, parameters: readonly string[]): Outcome | Promise<Outcome>;
}

/** Somebody at the console. */
export interface Operator {
  /** The SQL user; recorded with each change. */
  readonly name: string;
  readonly role: Role;
  /** Address and port, for the log. */
  readonly client: string;
}

/** A prepared statement; undefined for an empty text. */
export interface Prepared {
  /** Bytes of its text. */
  readonly size: number;
  readonly statement: Statement | undefined;
  /** The types of its parameters. */
  readonly types: readonly number[];
}

/** The state of one connection to the console. */
export class ConsoleSession {
  readonly operator: Operator;
  readonly services: ConsoleServices;
  readonly variables: SessionVariables;
  /** Statements that were prepared, by name; the extended protocol's. */
  readonly prepared = new Map<string, Prepared>();
  /** The changes of the transaction; undefined outside of one. */
  #pending: SettingChange[] | undefined;
  #failed = false;

  constructor(operator: Operator, services: ConsoleServices) {
    this.operator = operator;
    this.services = services;
    this.variables = sessionVariables(operator.name, services.version);
  }

  /** For ReadyForQuery: idle, in a transaction, in one that has failed. */
  get status(): 'I' | 'T' | 'E' {
    if (this.#failed) return 'E';
    return this.#pending ? 'T' : 'I';
  }

  get log(): Log {
    return this.services.log;
  }

  /**
   * Runs a statement.
   *
   * @throws PgError; a transaction has failed then
   */
  async execute(statement: Statement, parameters: readonly string[]): Promise<Outcome> {
    try {
      if (this.#failed && !statement.endsTransaction) throw transactionFailed();
      if (statement.requires) checkPrivilege(this.operator.role, statement.requires);
      return await statement.run(this, parameters);
    } catch (error) {
      this.fail();
      throw error;
    }
  }

  /** An error inside a transaction: nothing but its end is taken from now on. */
  fail(): void {
    if (this.#pending) this.#failed = true;
  }

  /** Begins a transaction; false when there is one. */
  begin(): boolean {
    if (this.#pending) return false;
    this.#pending = [];
    return true;
  }

  /**
   * Ends the transaction and makes its changes. Undefined: there was none, or it had failed, and
   * nothing was changed.
   */
  async commit(): Promise<Outcome | undefined> {
    const pending = this.#failed ? undefined : this.#pending;
    this.rollback();
    if (!pending) return undefined;
    return pending.length === 0 ? {} : this.#apply(pending);
  }

  /** Ends the transaction without its changes; false when there was none. */
  rollback(): boolean {
    const open = this.#pending !== undefined;
    this.#pending = undefined;
    this.#failed = false;
    return open;
  }

  /**
   * Changes a setting: now, or with the transaction. The value is looked at now.
   *
   * @throws PgError 22023; what the store throws
   */
  async change(change: SettingChange): Promise<Outcome> {
    if (change.kind === 'set') parseSetting(change.name, change.text);
    if (!this.#pending) return this.#apply([change]);
    // The last change of a setting counts; so there are never more than there are settings.
    this.#pending = [...this.#pending.filter(({ name }) => name !== change.name), change];
    return {};
  }

  /**
   * Creates or drops an API key, at once: the secret is shown by the statement, so there is nothing
   * to wait for.
   *
   * @throws PgError 25001 in a transaction; what the store throws
   */
  async changeApiKeys(change: ApiKeyChange): Promise<void> {
    if (this.#pending) throw insideTransaction();
    const { settings, log } = this.services;
    const { name: user, client } = this.operator;
    await settings.changeApiKeys(change, user);
    log.info(
      { event: 'api_key_change', user, client, apiKey: change.name, kind: change.kind },
      'API keys changed',
    );
  }

  /**
   * What SHOW says of a setting: with the changes of the transaction, and without a value that only
   * an admin may see.
   */
  stateOf(name: SettingName): SettingState {
    const state = this.#changedState(name);
    if (!definitions[name].sensitive || this.operator.role === 'admin') return state;
    return { ...state, text: REDACTED, defaultText: REDACTED };
  }

  #changedState(name: SettingName): SettingState {
    const state = this.services.settings.current.states[name];
    const change = this.#pending?.find((candidate) => candidate.name === name);
    if (!change) return state;
    if (change.kind === 'reset') return { ...state, text: state.defaultText, origin: 'default' };
    return { ...state, text: parseSetting(name, change.text).text, origin: 'override' };
  }

  async #apply(changes: readonly SettingChange[]): Promise<Outcome> {
    const { settings, log } = this.services;
    const before = new Set(settingWarnings(settings.current.values));
    const snapshot = await settings.change(changes, this.operator.name);
    const { name: user, client } = this.operator;
    for (const { kind, name } of changes)
      log.info({ event: 'setting_change', user, client, setting: name, kind }, 'setting changed');
    return { warnings: warningsOf(snapshot, before, changes) };
  }
}

/** The warnings that are new, and those that speak of what was set. */
function warningsOf(
  { values }: SettingsSnapshot,
  before: ReadonlySet<string>,
  changes: readonly SettingChange[],
): readonly string[] {
  return settingWarnings(values).filter(
    (text) => !before.has(text) || changes.some(({ name }) => text.includes(name)),
  );
}

function insideTransaction(): PgError {
  return new PgError({
    code: 'inside_transaction',
    message: 'API keys cannot be created or dropped inside a transaction block',
  });
}

function transactionFailed(): PgError {
  return new PgError({
    code: 'transaction_failed',
    message: 'current transaction is aborted, commands ignored until end of transaction block',
  });
}
