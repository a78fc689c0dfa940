/**
 * The output of `npm test`: a line for each test file, each failure in full when it happens, and a
 * last line that scripts read: `N passed, N failed` and, if tests were skipped, `, N skipped`. It
 * counts assertions, not the tests that group them. A test marked "todo" counts as skipped. The
 * exit status is tap's.
 */
import { Transform, type TransformCallback } from 'node:stream';
import { Parser, type Result } from 'tap-parser';

/** The stream that tap writes its TAP to. Tap's option `reporter` requires a default export. */
export default class Reporter extends Transform {
  readonly #parser = new Parser();
  #passed = 0;
  #failed = 0;
  #skipped = 0;

  constructor() {
    super({ encoding: 'utf8' });
    this.#parser.on('pass', () => this.#passed++);
    this.#parser.on('skip', () => this.#skipped++);
    this.#parser.on('todo', () => this.#skipped++);
    this.#parser.on('fail', (result: Result) => {
      this.#failed++;
      this.push(describe(result));
    });
    // A result at the root is that of a file.
    this.#parser.on('assert', ({ ok, name, time }: Result) => {
      const duration = time === null ? '' : `  ${(time / 1000).toFixed(1)} s`;
      this.push(`${ok ? '  ok  ' : 'NOT OK'}  ${name}${duration}\n`);
    });
    this.#parser.on('bailout', (reason: string) => this.push(`bailed out: ${reason}\n`));
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#parser.write(chunk);
    done();
  }

  override _flush(done: TransformCallback): void {
    this.#parser.once('complete', ({ ok }: { ok: boolean }) => {
      // Broken TAP, such as an unfulfilled plan, fails a run without a failed assertion.
      const failed = ok ? this.#failed : Math.max(this.#failed, 1);
      const skipped = this.#skipped > 0 ? `, ${this.#skipped} skipped` : '';
      this.push(`\n${this.#passed} passed, ${failed} failed${skipped}\n`);
      done();
    });
    this.#parser.end();
  }
}

/** The place, the difference and the stack of a failure, from tap's YAML block. */
function describe({ fullname, tapError, diag }: Result): string {
  const { at, diff, found, wanted, stack, exitCode, signal } = diag ?? {};
  const details = [
    tapError,
    exitCode !== undefined && exitCode !== null && `exit status ${exitCode}`,
    signal && `signal ${signal}`,
    at && `at ${at.fileName}:${at.lineNumber}:${at.columnNumber}`,
    diff ??
      (found !== undefined || wanted !== undefined
        ? `found  ${JSON.stringify(found)}\nwanted ${JSON.stringify(wanted)}`
        : undefined),
    stack,
  ];
  const lines = details.filter(Boolean).flatMap((detail) => String(detail).trimEnd().split('\n'));
  return `\nFAILED  ${fullname}\n${lines.map((line) => `        ${line}\n`).join('')}\n`;
}
