/**
 * The log: one JSON object per line for machines, or a readable line on a terminal. Fields and
 * messages are bounded, whoever wrote the text in them, and secrets are taken out of them.
 */
import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino';
import { boundEvent } from './event-bounds.ts';
import { LogStream } from './log-stream.ts';

/** `json` writes JSON lines; `pretty` writes lines for a terminal. */
export type LogFormat = 'json' | 'pretty';

/** The lowest level that is written. */
export type LogLevel = LevelWithSilent;

export type Log = Logger;

/** Where lines go. What is held back is written by `flush`, which then calls back. */
interface LineStream extends DestinationStream {
  flush?(written?: () => void): void;
}

/**
 * Creates a log that writes one line per event to the stream, by default to stderr. Lines for
 * stderr are collected for a moment: the `flush` of the log, and the end of the process, write them
 * at once.
 */
export function createLog(format: LogFormat, level: LogLevel, stream?: DestinationStream): Log {
  if (stream) return logTo(stream, format, level);
  const standardError = new LogStream(process.stderr, (count) =>
    log.warn({ event: 'log_dropped', count }, 'events dropped: nobody read the log'),
  );
  // An uncaught exception ends with this event, too.
  process.on('exit', () => standardError.flush());
  const log = logTo(standardError, format, level);
  return log;
}

function logTo(stream: LineStream, format: LogFormat, level: LogLevel): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      hooks: {
        logMethod(values, log) {
          log.apply(this, values.map(boundEvent) as Parameters<typeof log>);
        },
      },
    },
    format === 'json' ? stream : prettyStream(stream),
  );
}

function prettyStream(stream: LineStream): LineStream {
  return {
    write: (line) => stream.write(prettyLine(line)),
    flush: (written) => (stream.flush ? stream.flush(written) : written?.()),
  };
}

/** Turns a JSON line into `12:30:01 info  message key=value …`. */
function prettyLine(line: string): string {
  const { time, level, msg, ...fields }: Record<string, unknown> = JSON.parse(line);
  const start = [String(time).slice(11, 19), String(level).padEnd(5), String(msg ?? '')];
  const details = Object.entries(fields).map(([name, value]) => `${name}=${prettyValue(value)}`);
  return `${[...start, ...details].join(' ')}\n`;
}

/**
 * A value that is not one plain word is quoted and escaped, since a client chooses texts such as
 * the user name and could send control sequences to the terminal.
 */
function prettyValue(value: unknown): string {
  if (typeof value === 'string' && /^[\w@.:/+-]+$/.test(value)) return value;
  return JSON.stringify(value).replace(
    /[\p{Cc}\p{Cf}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/** Time between two lines of one {@link RepeatedEvent}. */
const INTERVAL_MS = 1000;

/**
 * An event that clients can cause as often as they like. The first one is logged at once. After
 * that there is at most one line per second, with the number of events since the last line, so a
 * flood is visible and does not fill the disk.
 */
export class RepeatedEvent {
  readonly #log: Log;
  readonly #event: string;
  readonly #text: string;
  readonly #count: () => void;
  #unlogged = 0;
  #fields: object = {};
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param text the message: what happened, and the option that sets the limit
   * @param count called for each event, for the metrics
   */
  constructor(log: Log, event: string, text: string, count = (): void => undefined) {
    this.#log = log;
    this.#event = event;
    this.#text = text;
    this.#count = count;
  }

  /**
   * Counts one event and logs it, now or with the next line.
   *
   * @param fields further members of the line; those of the last event count
   */
  happened(fields: object = {}): void {
    this.#unlogged++;
    this.#fields = fields;
    this.#count();
    if (this.#timer) return;
    this.#write();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#unlogged > 0) this.#write();
    }, INTERVAL_MS).unref();
  }

  #write(): void {
    this.#log.warn({ event: this.#event, count: this.#unlogged, ...this.#fields }, this.#text);
    this.#unlogged = 0;
  }
}
