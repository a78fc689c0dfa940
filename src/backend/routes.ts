/**
 * Which backend a login goes to (`--route`): by the database that it names, the first pattern that
 * fits, and `--backend` if none does. One front door for several clusters, each with its own way to
 * log in.
 */
import { errorText, PgError, UsageError } from '../lib/errors.ts';
import { Backend, type BackendNotice, type BackendOptions } from './backend.ts';
import type { CancelOutcome } from './cancel.ts';
import { backendAuthOf } from './open-credentials.ts';
import {
  type BackendAuth,
  type BackendUrl,
  formatHost,
  type OptionSource,
  parseBackendUrl,
  type UrlSources,
} from './url.ts';

/** The options that say where logins go. */
export interface RouteOptions extends BackendOptions, UrlSources {
  readonly backend?: string;
  /** `DATABASE_PATTERN=URL` each, in order. */
  readonly routes: readonly string[];
}

/** A pattern, understood. */
export interface RouteRule {
  /** How errors and findings call it: the option. */
  readonly name: string;
  readonly fits: (database: string) => boolean;
  readonly url: BackendUrl;
}

/** A backend with the databases that go to it. */
export interface Route extends Omit<RouteRule, 'url'> {
  readonly backend: Backend;
}

/** All backends of a process. */
export class Routes {
  /** In the order in which they are looked at; `--backend` is the last. */
  readonly all: readonly Route[];

  private constructor(all: readonly Route[]) {
    this.all = all;
  }

  /**
   * Reads what the options refer to. Nothing is dialled before {@link Routes.start}.
   *
   * @param notice is told of what an operator ought to know
   * @throws UsageError for options that cannot be right; Error with one line that names the option
   *   for files that cannot be used
   */
  static async open(options: RouteOptions, notice: BackendNotice): Promise<Routes> {
    const rules = parseRoutes(options);
    const routes: Route[] = [];
    try {
      for (const { name, fits, url } of rules) {
        const backend = await Backend.open(url, options, (level, text) =>
          notice(level, rules.length > 1 ? `${name}: ${text}` : text),
        );
        routes.push({ name, fits, backend });
      }
    } catch (error) {
      const text = `${rules[routes.length]?.name}: ${errorText(error)}`;
      throw error instanceof UsageError ? new UsageError(text) : new Error(text, { cause: error });
    }
    return new Routes(routes);
  }

  /** Begins to open connections ahead, if there are to be any. */
  start(): void {
    for (const { backend } of this.all) backend.start();
  }

  /**
   * The backend of a database.
   *
   * @throws PgError 3D000, as PostgreSQL does for a database that it does not have
   */
  find(database: string): Backend {
    const found = this.all.find(({ fits }) => fits(database));
    if (found) return found.backend;
    throw new PgError({
      code: 'unknown_database',
      message: `database "${database}" does not exist`,
      reason: 'no --route fits it, and there is no --backend',
    });
  }

  /** The backend that is looked at last: that of `--backend`, if there is one. */
  get last(): Backend {
    const route = this.all.at(-1);
    if (!route) throw new Error('a process without a backend');
    return route.backend;
  }

  /**
   * Forwards a cancel request to every host of every backend, once each: the key does not tell
   * whose it is, and means nothing to others.
   */
  async cancel(packet: Buffer, signal: AbortSignal): Promise<readonly CancelOutcome[]> {
    const byHosts = new Map(
      this.all.map(({ backend }) => [backend.target.url.hosts.map(formatHost).join(), backend]),
    );
    const outcomes = await Promise.all(
      Array.from(byHosts.values(), (backend) => backend.cancel(packet, signal)),
    );
    return outcomes.flat();
  }

  /** Drops connections that wait, and opens no more; sessions go on. */
  close(): void {
    for (const { backend } of this.all) backend.close();
  }
}

/**
 * The options, understood.
 *
 * @throws UsageError for what cannot be right
 */
export function parseRoutes(options: RouteOptions): RouteRule[] {
  const { backend, routes, sourceOf } = options;
  const rules = routes.map((text) => {
    const equals = text.indexOf('=');
    const pattern = text.slice(0, Math.max(equals, 0)).trim();
    if (pattern === '')
      throw new UsageError(
        '--route: give DATABASE_PATTERN=URL, such as sales_*=postgres://db2.example.com',
      );
    const name = `--route ${pattern}`;
    return {
      name,
      fits: patternMatcher(pattern),
      url: parseUrl(name, text.slice(equals + 1).trim(), sourceOf('route')),
    };
  });
  if (backend !== undefined) {
    rules.push({
      name: '--backend',
      fits: () => true,
      url: parseUrl('--backend', backend, sourceOf('backend')),
    });
  }
  if (rules.length === 0) {
    throw new UsageError(
      'option --backend <URL> (or PGSSO_BACKEND) is missing: it names the database',
    );
  }
  checkOptions(rules, options);
  return rules;
}

/**
 * A name in which each `*` stands for any characters or none; letters count as they are, as in
 * PostgreSQL's catalog.
 */
function patternMatcher(pattern: string): (database: string) => boolean {
  const [head = '', ...others] = pattern.split('*');
  const tail = others.pop();
  if (tail === undefined) return (database) => database === pattern;
  return (database) => {
    if (
      !database.startsWith(head) ||
      !database.endsWith(tail) ||
      database.length < head.length + tail.length
    )
      return false;
    // Each part at the first place where it fits leaves the most for those behind it, so that no
    // second try is needed.
    let at = head.length;
    const end = database.length - tail.length;
    return others.every((part) => {
      const found = database.indexOf(part, at);
      at = found + part.length;
      return found >= 0 && at <= end;
    });
  };
}

function parseUrl(name: string, text: string, source: OptionSource): BackendUrl {
  try {
    return parseBackendUrl(text, source);
  } catch (error) {
    throw new UsageError(`${name}: ${errorText(error)}`);
  }
}

/** An option that no backend reads would only seem to do something. */
function checkOptions(rules: readonly RouteRule[], options: RouteOptions): void {
  const methods = new Set(rules.map(({ url }) => backendAuthOf(url, options)));
  const needless: [string, unknown, BackendAuth][] = [
    ['--backend-passfile', options.backendPassfile, 'password'],
    ['--issue-ca-cert', options.issueCaCert, 'issue-cert'],
    ['--issue-ca-key', options.issueCaKey, 'issue-cert'],
  ];
  for (const [option, value, wanted] of needless) {
    if (value === undefined || methods.has(wanted)) continue;
    throw new UsageError(`${option} is of no use with --backend-auth ${[...methods].join(', ')}`);
  }
  if (options.backendAhead > 0 && [...methods].every((method) => method === 'issue-cert')) {
    throw new UsageError(
      '--backend-ahead is of no use with --backend-auth issue-cert: each certificate belongs to one user',
    );
  }
}
