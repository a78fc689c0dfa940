/**
 * What a worker tells its node: unfinished logins, refusals, and uses for the console. It collects
 * for some milliseconds, and a login that is over by then is never told of. What collects while the
 * node does not answer is bounded.
 */
import type { ApiKeyUses } from '../../auth/api-keys.ts';
import type { Permit } from '../../lib/limiter.ts';
import type { Counted, NodeThrottle } from '../../session/throttle.ts';
import { COLLECT_MS, Outbox } from './link.ts';
import type { WorkerNews } from './messages.ts';

/** Refusals and uses that wait to be told. More of them are not told of. */
const WAITING_LIMIT = 1000;

/** An unfinished login. */
interface Login {
  readonly address: string;
  readonly evict: () => void;
  isTold: boolean;
}

/** Collects what is to be told. */
export class CollectedNews implements Pick<NodeThrottle, 'counted'>, Pick<ApiKeyUses, 'note'> {
  readonly #outbox: Outbox;
  /** By a number that is told. There are at most `--max-logins`. */
  readonly #logins = new Map<number, Login>();
  readonly #begun = new Set<number>();
  readonly #kept = new Set<number>();
  #over: number[] = [];
  #counted: Counted[] = [];
  #keyUses = new Map<string, number>();
  #userLogins = new Map<string, number>();
  #number = 0;

  /** @param tell resolves when the node has answered */
  constructor(tell: (news: WorkerNews) => Promise<void>) {
    this.#outbox = new Outbox(() => tell(this.#take()));
  }

  /** An unfinished login begins: NodeLimits.noteLogin. */
  noteLogin(address: string, evict: () => void): Permit {
    const id = ++this.#number;
    const login: Login = { address, evict, isTold: false };
    this.#logins.set(id, login);
    this.#begun.add(id);
    this.#outbox.collected(COLLECT_MS);
    return {
      keep: () => {
        if (!this.#logins.has(id)) return;
        this.#kept.add(id);
        this.#outbox.collected(COLLECT_MS);
      },
      release: () => {
        if (!this.#logins.delete(id)) return;
        this.#begun.delete(id);
        this.#kept.delete(id);
        if (!login.isTold) return;
        this.#over.push(id);
        this.#outbox.collected(COLLECT_MS);
      },
    };
  }

  /** The node needs the place of a login. */
  evict(id: number): void {
    this.#logins.get(id)?.evict();
  }

  /** The others learn of it at once: the next guess may come to them. */
  counted(counted: Counted): void {
    if (this.#counted.length >= WAITING_LIMIT) return;
    this.#counted.push(counted);
    this.#outbox.collected(0);
  }

  /** A login with an API key. */
  note({ digest }: { readonly digest: string }, at: number): void {
    this.#remember(this.#keyUses, digest, at);
  }

  /** A login of a user with a token. */
  noteUser(user: string, at: number): void {
    this.#remember(this.#userLogins, user, at);
  }

  #remember(uses: Map<string, number>, name: string, at: number): void {
    if (uses.size >= WAITING_LIMIT && !uses.has(name)) return;
    uses.set(name, at);
    this.#outbox.collected(COLLECT_MS);
  }

  #take(): WorkerNews {
    const begun = [...this.#begun].flatMap((id) => {
      const login = this.#logins.get(id);
      if (!login) return [];
      login.isTold = true;
      return [[id, login.address] as const];
    });
    const news: WorkerNews = {
      begun,
      kept: [...this.#kept],
      over: this.#over,
      counted: this.#counted,
      keyUses: this.#keyUses,
      logins: this.#userLogins,
    };
    this.#begun.clear();
    this.#kept.clear();
    this.#over = [];
    this.#counted = [];
    this.#keyUses = new Map();
    this.#userLogins = new Map();
    return news;
  }
}
