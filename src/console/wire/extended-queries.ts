/**
 * The extended query protocol (manual 54.2.3): separate messages prepare a statement, bind its
 * parameters and execute it. After an error all messages up to Sync are skipped.
 */
import { PgError } from '../../lib/errors.ts';
import { formatText } from '../../lib/text.ts';
import { FRONTEND } from '../../wire/constants.ts';
import type { Message } from '../../wire/framer.ts';
import {
  bindComplete,
  closeComplete,
  emptyQueryResponse,
  noData,
  parameterDescription,
  parseBind,
  parseComplete,
  parseExecute,
  parseParse,
  parseTarget,
  portalSuspended,
  readyForQuery,
} from '../../wire/query-messages.ts';
import { HeldByName } from '../memory.ts';
import { decodeParameter, decodeText, type Format } from '../results.ts';
import type { ConsoleSession, Prepared, Statement } from '../session.ts';
import { parseQueryText } from '../statements/grammar.ts';
import { noSuchStatement } from '../statements/variables.ts';
import { describeColumns, encodeEnd, encodeRows, errorReply } from './replies.ts';

/** A statement with bound parameters. */
interface Portal {
  /** Estimated bytes without the result. */
  readonly cost: number;
  readonly statement: Statement | undefined;
  readonly parameters: readonly string[];
  readonly formatOf: (index: number) => Format;
  /** What the next Execute sends: rows, then the end. Undefined before the first Execute. */
  left: { readonly rows: Buffer[]; readonly end: readonly Buffer[] } | undefined;
}

/**
 * Estimated bytes of what is held: of an entry with its objects, of a token or a value, and of a
 * byte that was sent, which can take four as part of the text and of a value.
 */
const COSTS = { entry: 1024, token: 128, byte: 4 } as const;

/** OID of text, the type of a parameter for which the client declares none. */
const TEXT_OID = 25;

/** The prepared statements and portals of a connection. */
export class ExtendedQueries {
  readonly #session: ConsoleSession;
  readonly #portals: HeldByName<Portal>;
  #skipping = false;

  constructor(session: ConsoleSession) {
    this.#session = session;
    this.#portals = new HeldByName(session.memory);
  }

  /** Drops all statements and portals: the connection has ended. */
  close(): void {
    this.#session.prepared.clear();
    this.#portals.clear();
  }

  /** Drops the unnamed statement and portal, as a simple query does. */
  forgetUnnamed(): void {
    this.#session.prepared.delete('');
    this.#portals.delete('');
  }

  /**
   * Handles a message and returns the replies.
   *
   * @param refusal why the message is refused, whatever it says
   * @throws PgError 08P01 for a malformed or unexpected message, after which the connection must be
   *   closed
   */
  async answer(message: Message, refusal?: PgError): Promise<Buffer> {
    if (message.type === FRONTEND.sync) {
      this.#skipping = false;
      // Portals end with the transaction. Without BEGIN, Sync ends it.
      if (this.#session.status === 'I') this.#portals.clear();
      return readyForQuery(this.#session.status);
    }
    const handle = refusal ? undefined : this.#handlerOf(message);
    if (this.#skipping) return Buffer.alloc(0);
    try {
      if (!handle) throw refusal;
      return await handle();
    } catch (error) {
      this.#skipping = true;
      this.#session.fail();
      return errorReply(error, this.#session);
    }
  }

  /** Parses the message, also one that is skipped, and returns what handles it. */
  #handlerOf({ type, body }: Message): () => Buffer | Promise<Buffer> {
    switch (type) {
      case FRONTEND.parse: {
        const message = parseParse(body);
        return () => this.#prepare(message);
      }
      case FRONTEND.bind: {
        const message = parseBind(body);
        return () => this.#bind(message);
      }
      case FRONTEND.describe: {
        const target = parseTarget(body);
        return () =>
          target.kind === 'statement'
            ? this.#describeStatement(target.name)
            : this.#describePortal(target.name);
      }
      case FRONTEND.execute: {
        const { portal, maxRows } = parseExecute(body);
        return () => this.#execute(portal, maxRows);
      }
      case FRONTEND.close: {
        const { kind, name } = parseTarget(body);
        return () => {
          if (kind === 'statement') this.#session.prepared.delete(name);
          else this.#portals.delete(name);
          return closeComplete;
        };
      }
      case FRONTEND.flush:
        return () => Buffer.alloc(0);
      default:
        throw new PgError({
          code: 'unexpected_message',
          message: `invalid frontend message type ${type}`,
        });
    }
  }

  #prepare({ name, query, types }: ReturnType<typeof parseParse>): Buffer {
    const { prepared } = this.#session;
    if (name !== '' && prepared.has(name))
      throw duplicate('42P05', `prepared statement "${formatText(name)}" already exists`);
    const [statement, ...more] = parseQueryText(decodeText(query));
    if (more.length > 0) throw severalStatements();
    const count = statement?.parameterCount ?? 0;
    const tokens = (statement?.tokenCount ?? 0) + count;
    const typeOfParameters = statement?.parameterType ?? TEXT_OID;
    prepared.set(
      name,
      {
        statement,
        types: Array.from({ length: count }, (_, index) => types[index] || typeOfParameters),
      },
      COSTS.entry + COSTS.byte * query.length + COSTS.token * tokens,
    );
    return parseComplete;
  }

  #bind({
    portal,
    statement: name,
    formats,
    values,
    resultFormats,
  }: ReturnType<typeof parseBind>): Buffer {
    const { statement, types } = this.#statement(name);
    if (values.length !== types.length) throw wrongCount(values.length, name, types.length);
    if (portal !== '' && this.#portals.has(portal))
      throw duplicate('42P03', `cursor "${formatText(portal)}" already exists`);
    const formatOf = formatList(formats, values.length);
    const parameters = values.map((value, index) => {
      if (value === undefined) throw nullParameter(index);
      return decodeParameter(value, types[index] ?? TEXT_OID, formatOf(index));
    });
    const size = values.reduce((sum, value) => sum + (value?.length ?? 0), 0);
    const cost = COSTS.entry + COSTS.byte * size + COSTS.token * values.length;
    const columns = statement?.columns.length ?? 0;
    const formatOfColumn = formatList(resultFormats, columns);
    const bound = { cost, statement, parameters, formatOf: formatOfColumn, left: undefined };
    this.#portals.set(portal, bound, cost);
    return bindComplete;
  }

  #describeStatement(name: string): Buffer {
    const { statement, types } = this.#statement(name);
    const columns = statement?.columns ?? [];
    const rows = columns.length === 0 ? noData : describeColumns(columns, () => 0);
    return Buffer.concat([parameterDescription(types), rows]);
  }

  #describePortal(name: string): Buffer {
    const { statement, formatOf } = this.#portal(name);
    return statement?.columns.length ? describeColumns(statement.columns, formatOf) : noData;
  }

  async #execute(name: string, maxRows: number): Promise<Buffer> {
    const portal = this.#portal(name);
    const { statement, parameters, formatOf } = portal;
    if (!statement) return emptyQueryResponse;
    if (!portal.left) {
      const outcome = await this.#session.execute(statement, parameters);
      portal.left = {
        rows: encodeRows(statement.columns, outcome, formatOf),
        end: encodeEnd(statement, outcome),
      };
    }
    const { rows, end } = portal.left;
    const now = rows.splice(0, maxRows === 0 ? rows.length : maxRows);
    // Rows that the client has not asked for yet stay, so they count.
    const held = rows.reduce((sum, row) => sum + row.length + COSTS.token, 0);
    this.#portals.set(name, portal, portal.cost + held);
    return Buffer.concat([...now, ...(rows.length > 0 ? [portalSuspended] : end)]);
  }

  #statement(name: string): Prepared {
    const prepared = this.#session.prepared.get(name);
    if (!prepared) throw noSuchStatement(name);
    return prepared;
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal) return portal;
    throw new PgError({
      code: 'unknown_portal',
      message: `portal "${formatText(name)}" does not exist`,
    });
  }
}

/**
 * Returns the format of each value. Without formats every value is text, one format applies to all
 * values, otherwise there is one for each (manual 54.7, Bind).
 */
function formatList(formats: readonly number[], count: number): (index: number) => Format {
  if (
    (formats.length > 1 && formats.length !== count) ||
    formats.some((format) => format !== 0 && format !== 1)
  ) {
    throw new PgError({
      code: 'malformed_bind',
      message: `bind message has ${formats.length} formats for ${count} values`,
    });
  }
  return (index) => ((formats.length === 1 ? formats[0] : formats[index]) === 1 ? 1 : 0);
}

function duplicate(sqlstate: string, message: string): PgError {
  return new PgError({ code: 'duplicate_name', sqlstate, message });
}

function severalStatements(): PgError {
  return new PgError({
    code: 'several_statements',
    message: 'cannot insert multiple commands into a prepared statement',
    position: 1,
  });
}

function wrongCount(given: number, name: string, wanted: number): PgError {
  return new PgError({
    code: 'wrong_parameter_count',
    message:
      `bind message supplies ${given} parameters, ` +
      `but prepared statement "${formatText(name)}" requires ${wanted}`,
  });
}

function nullParameter(index: number): PgError {
  return new PgError({
    code: 'null_parameter',
    message: `parameter $${index + 1} is NULL`,
    hint: 'SET CLUSTER SETTING name = DEFAULT gives a setting its default.',
  });
}
