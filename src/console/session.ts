/**
 * The state of one console connection: the operator, the transaction, the session variables and the
 * prepared statements. Changes of settings in a transaction are collected; COMMIT applies all of
 * them or none.
 */
import type { ApiKeyUses } from '../auth/api-keys.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import type { Directory } from '../directory/directory.ts';
import type { KeySource } from '../keys/key-source.ts';
import { PgError } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { CopyChoice } from '../session/copy-choice.ts';
import type { NodeSessions } from '../session/registry.ts';
import type { ApiKeyChange } from '../settings/api-keys.ts';
import { REDACTED, type SettingChange } from '../settings/changes.ts';
import { definitions, type SettingName } from '../settings/definitions.ts';
import { parseSetting } from '../settings/lookup.ts';
import type { SettingState, SettingsSnapshot } from '../settings/snapshot.ts';
import type { SettingsStore } from '../settings/store/store.ts';
import { settingWarnings } from '../settings/warnings.ts';
import { HeldByName, type MemoryBudget } from './memory.ts';
import { checkPrivilege, type Operators, type Requirement, type Role } from './operators.ts';
import type { Cell, Column } from './results.ts';
import { type SessionVariables, sessionVariables } from './variables.ts';

/** What the statements read and change. */
export interface ConsoleServices {
  readonly settings: SettingsStore;
  readonly authenticator: Authenticator;
  readonly keys: KeySource;
  /** Undefined without `--directory`. */
  readonly directory: Directory | undefined;
  readonly apiKeyUses: ApiKeyUses;
  readonly sessions: NodeSessions;
  /** How the bytes of sessions are copied. */
  readonly copy: Pick<CopyChoice, 'name'>;
  readonly metrics: Pick<Metrics, 'figures'>;
  readonly operators: Operators;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: Log;
}

/** The result of a statement. */
export interface Outcome {
  readonly rows?: readonly (readonly Cell[])[];
  /** Each one is sent as a NOTICE. */
  readonly notices?: readonly string[];
  /** Each one is sent as a WARNING. */
  readonly warnings?: readonly string[];
  /** Replaces the command tag of the statement. */
  readonly tag?: string;
}

/** A parsed statement. It can be run any number of times. */
export interface Statement {
  /** The tag of CommandComplete. SELECT gets the number of rows appended. */
  readonly tag: string;
  /** Empty for a statement that returns no rows. */
  readonly columns: readonly Column[];
  /** The privilege that it needs; undefined if it shows and changes nothing of pgsso. */
  readonly requires: Requirement | undefined;
  /** Set for COMMIT and ROLLBACK, which also run in a failed transaction. */
  readonly endsTransaction?: true;
  /** The number of the highest parameter in the statement. */
  readonly parameterCount: number;
  /** The OID of the type of its parameters, if that is not text. */
  readonly parameterType?: number;
  /** How many tokens it has. A list of values keeps one object for each. */
  readonly tokenCount: number;
  /** @throws PgError if it fails; it has changed nothing then */
  run(session: ConsoleSession, parameters: readonly string[]): Outcome | Promise<Outcome>;
}

/** The user of a console connection. */
export interface Operator {
  /** The SQL user. The history records it with each change. */
  readonly name: string;
  readonly role: Role;
  /** Address and port of the client, for the log. */
  readonly client: string;
}

/** A prepared statement of the extended protocol. */
export interface Prepared {
  /** Undefined for an empty query text. */
  readonly statement: Statement | undefined;
  /** OIDs of the types of its parameters. */
  readonly types: readonly number[];
}

/** The state of one connection to the console. */
export class ConsoleSession {
  readonly operator: Operator;
  readonly services: ConsoleServices;
  readonly variables: SessionVariables;
  /** Prepared statements by name. */
  readonly prepared: HeldByName<Prepared>;
  /** What the prepared statements and portals of the connection may cost. */
  readonly memory: MemoryBudget;
  /** Changes of the open transaction; undefined outside of a transaction. */
  #pending: SettingChange[] | undefined;
  #failed = false;

  /** @param memory what all connections together may hold */
  constructor(operator: Operator, services: ConsoleServices, memory: MemoryBudget) {
    this.operator = operator;
    this.services = services;
    this.memory = memory.ofConnection();
    this.prepared = new HeldByName(this.memory);
    this.variables = sessionVariables(operator.name, services.version);
  }

  /** For ReadyForQuery: idle, in a transaction, in a failed transaction. */
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
   * @throws PgError if it is refused or fails; an open transaction is then failed
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

  /** Marks the open transaction as failed: only its end is accepted from now on. */
  fail(): void {
    if (this.#pending) this.#failed = true;
  }

  /** Begins a transaction. Returns false if one is open. */
  begin(): boolean {
    if (this.#pending) return false;
    this.#pending = [];
    return true;
  }

  /**
   * Ends the transaction and applies its changes. Returns undefined and changes nothing if there
   * is no transaction or it has failed.
   *
   * @throws what the store throws
   */
  async commit(): Promise<Outcome | undefined> {
    const pending = this.#failed ? undefined : this.#pending;
    this.rollback();
    if (!pending) return undefined;
    return pending.length === 0 ? {} : this.#apply(pending);
  }

  /** Ends the transaction and drops its changes. Returns false if there was none. */
  rollback(): boolean {
    const open = this.#pending !== undefined;
    this.#pending = undefined;
    this.#failed = false;
    return open;
  }

  /**
   * Changes a setting, at COMMIT if a transaction is open. The value is validated at once.
   *
   * @throws PgError 22023 for an invalid value; what the store throws
   */
  async change(change: SettingChange): Promise<Outcome> {
    if (change.kind === 'set') parseSetting(change.name, change.text);
    if (!this.#pending) return this.#apply([change]);
    // Only the last change of a setting counts, so the list is never longer than the settings.
    this.#pending = [...this.#pending.filter(({ name }) => name !== change.name), change];
    return {};
  }

  /**
   * Creates or drops an API key at once. This cannot wait for COMMIT, because CREATE API KEY shows
   * the secret in its result.
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
   * Returns a setting for SHOW, with the changes of the open transaction. A sensitive value is
   * redacted unless the operator is an admin.
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

/** Returns the warnings that are new and those that name a changed setting. */
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
