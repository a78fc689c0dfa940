/**
 * Chooses the backend of a login by its database: the first `--route` whose pattern matches, or
 * `--backend` if none does. One front-end can thus serve several clusters, each with its own method
 * to log in.
 */
import { errorText, PgError, UsageError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import { Backend, type BackendNotice, type BackendOptions } from './backend.ts';
import { allHosts, type CancelDestination, type CancelOutcome, forwardCancel } from './cancel.ts';
import { backendAuthOf } from './open-credentials.ts';
import type { BackendAuth, BackendUrl, OptionSource, UrlSources } from './url.ts';
import { parseBackendUrl } from './url-parser.ts';

/** The options that say where logins go. */
export interface RouteOptions extends BackendOptions, UrlSources {
  readonly backend?: string;
  /** `DATABASE_PATTERN=URL` each, in order. */
  readonly routes: readonly string[];
  /** Unfinished logins of the process at once. Default: any number. */
  readonly maxLogins?: number;
  /** How many processes the share of a route is divided among. Default: 1. */
  readonly workers?: number;
}

/** With several routes, the part of the unfinished logins that may wait for one of them. */
const ROUTE_SHARE = 1 / 4;

/** A parsed `--route`, or `--backend`. */
export interface RouteRule {
  /** The option, for errors and findings. */
  readonly name: string;
  readonly matches: (database: string) => boolean;
  readonly url: BackendUrl;
}

/** A backend with the pattern of its databases. */
export interface Route extends Omit<RouteRule, 'url'> {
  readonly backend: Backend;
}

/** All backends of a process. */
export class Routes {
  /** In the order in which they are tried. `--backend` is the last. */
  readonly all: readonly Route[];

  private constructor(all: readonly Route[]) {
    this.all = all;
  }

  /**
   * Reads the files that the options name. Nothing is dialled before {@link Routes.start}.
   *
   * @param notice gets what an operator should know
   * @throws UsageError for wrong options; Error with one line that names the option for files that
   *   cannot be used
   */
  static async open(options: RouteOptions, notice: BackendNotice): Promise<Routes> {
    const rules = parseRoutes(options);
    const routes: Route[] = [];
    const limit = shareOf(rules.length, options);
    try {
      for (const { name, matches, url } of rules) {
        const noticeOf: BackendNotice = (level, text) =>
          notice(level, rules.length > 1 ? `${name}: ${text}` : text);
        const backend = await Backend.open(url, options, noticeOf, { name, limit });
        routes.push({ name, matches, backend });
      }
    } catch (error) {
      const text = `${rules[routes.length]?.name}: ${errorText(error)}`;
      throw error instanceof UsageError ? new UsageError(text) : new Error(text, { cause: error });
    }
    return new Routes(routes);
  }

  /** Begins to open connections ahead. */
  start(): void {
    for (const { backend } of this.all) backend.start();
  }

  /**
   * The backend of a database.
   *
   * @throws PgError 3D000, as PostgreSQL does for an unknown database
   */
  find(database: string): Backend {
    const found = this.all.find(({ matches }) => matches(database));
    if (found) return found.backend;
    throw new PgError({
      code: 'unknown_database',
      message: `database "${formatText(database)}" does not exist`,
      reason: 'no --route fits it, and there is no --backend',
    });
  }

  /** The last backend: that of `--backend`, if there is one. */
  get last(): Backend {
    const route = this.all.at(-1);
    if (!route) throw new Error('a process without a backend');
    return route.backend;
  }

  /**
   * Forwards a cancel request, to each host once.
   *
   * @param destinations the hosts that issued its key. Default: every host of every backend. The
   *   key does not say which one issued it, and the others ignore it
   */
  cancel(
    packet: Buffer,
    signal: AbortSignal,
    destinations: readonly CancelDestination[] = this.all.flatMap(({ backend }) =>
      allHosts(backend.target),
    ),
  ): Promise<readonly CancelOutcome[]> {
    return forwardCancel(destinations, packet, signal);
  }

  /** Closes connections opened ahead, and opens no more. Sessions go on. */
  close(): void {
    for (const { backend } of this.all) backend.close();
  }
}

function shareOf(
  routes: number,
  { maxLogins = Number.POSITIVE_INFINITY, workers = 1 }: RouteOptions,
): number {
  return routes > 1 ? Math.max(1, Math.floor((maxLogins * ROUTE_SHARE) / workers)) : maxLogins;
}

/**
 * Parses the options.
 *
 * @throws UsageError for wrong or contradictory options
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
      matches: patternMatcher(pattern),
      url: parseUrl(name, text.slice(equals + 1).trim(), sourceOf('route')),
    };
  });
  if (backend !== undefined) {
    rules.push({
      name: '--backend',
      matches: () => true,
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
 * In a pattern, `*` stands for any characters or none. Case matters, as in PostgreSQL's catalog.
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
    // The first place of a part leaves the most room for those behind it, so one try is enough.
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

/** Refuses options that no backend uses: they would only seem to do something. */
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
      '--backend-ahead is of no use with --backend-auth issue-cert: ' +
        'each certificate belongs to one user',
    );
  }
}
