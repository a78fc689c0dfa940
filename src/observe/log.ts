/**
 * The log: one JSON object a line on stderr for machines, or a line a person can read on a
 * terminal. What must never be logged has no field here; the redaction below is the second lock on
 * that door, for an object that is logged whole by mistake.
 */
import { type DestinationStream, type Logger, pino } from 'pino';

/** `json` for machines, `pretty` for a terminal. */
export type LogFormat = 'json' | 'pretty';

/** The levels that `--log-level` allows, most talkative first. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type Log = Logger;

/** Members that hold secrets wherever they appear. */
const SECRETS = ['token', 'password', 'secret', 'privateKey', 'authorization'];

/**
 * The process's own standard error. Nobody may be reading it any more; that must not end the
 * sessions.
 */
function standardError(): DestinationStream {
  process.stderr.on('error', () => undefined);
  return process.stderr;
}

/** A log that writes to the stream, one line an event. */
export function createLog(
  format: LogFormat,
  level: LogLevel,
  stream: DestinationStream = standardError(),
): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '<redacted>' },
    },
    format === 'json' ? stream : { write: (line) => stream.write(prettyLine(line)) },
  );
}

/** A JSON line as `12:30:01 info  message key=value …`. */
function prettyLine(line: string): string {
  const { time, level, msg, ...fields }: Record<string, unknown> = JSON.parse(line);
  const details = Object.entries(fields).map(([name, value]) => `${name}=${prettyValue(value)}`);
  return `${[String(time).slice(11, 19), String(level).padEnd(5), String(msg ?? ''), ...details].join(' ')}\n`;
}

/**
 * Quoted unless it is one plain word: a user name is a stranger's text, and the terminal must not
 * obey it.
 */
function prettyValue(value: unknown): string {
  if (typeof value === 'string' && /^[\w@.:/+-]+$/.test(value)) return value;
  return JSON.stringify(value).replace(
    /[\p{Cc}\p{Cf}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/*
 * An event that a stranger can cause as often as he likes. It is logged when it first happens and
 * then at most once a second, with how often it happened meanwhile, so that a flood shows in the
 * log without filling the disk.
 */

const INTERVAL_MS = 1000;

/** One kind of event. */
export class RepeatedEvent {
  readonly #log: Log;
  readonly #event: string;
  readonly #text: string;
  readonly #count: () => void;
  #unlogged = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param text what happened and which option decides it
   * @param count called each time, for the metrics
   */
  constructor(log: Log, event: string, text: string, count: () => void) {
    this.#log = log;
    this.#event = event;
    this.#text = text;
    this.#count = count;
  }

  /** It has happened once more. */
  happened(): void {
    this.#unlogged++;
    this.#count();
    if (this.#timer) return;
    this.#write();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#unlogged > 0) this.#write();
    }, INTERVAL_MS).unref();
  }

  #write(): void {
    this.#log.warn({ event: this.#event, count: this.#unlogged }, this.#text);
    this.#unlogged = 0;
  }
}
