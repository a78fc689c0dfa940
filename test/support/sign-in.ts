/**
 * Signing in at `oidc-provider` in tests: its pages, and a browser without a screen in which
 * somebody signs in and agrees or declines.
 */

/** The provider's own pages print that they should be changed. */
export const pages = {
  userCodeInputSource: showForm,
  userCodeConfirmSource: (context: { body: string }, form: string) =>
    showForm(context, `${form}<button name="abort"></button>`),
  successSource: (context: { body: string }) => showForm(context, 'done'),
};

function showForm(context: { body: string }, form: string): void {
  context.body = form;
}

/** As many pages as a sign-in has, and some more. */
const PAGE_LIMIT = 12;

/**
 * Goes to an address as a browser does, signs in, and agrees to everything or to nothing.
 *
 * @returns the last page
 */
export async function browse(
  address: string,
  login: string,
  answer: 'confirm' | 'decline' = 'confirm',
): Promise<{ readonly address: string; readonly text: string }> {
  // Cookies do not look at the port.
  const cookies = new Map<string, string>();
  let page = await load(address, cookies);
  for (let shown = 0; shown < PAGE_LIMIT; shown++) {
    const [, action = '', inside = ''] =
      /<form[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/s.exec(page.text) ?? [];
    if (action === '') return page;
    const [, abort] = /<a href="([^"]*)">\[ Cancel \]/.exec(page.text) ?? [];
    if (answer === 'decline' && abort !== undefined) {
      page = await load(new URL(abort, page.address).href, cookies);
      continue;
    }
    const fields = new URLSearchParams();
    for (const [tag] of inside.matchAll(/<input[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(tag)?.[1];
      if (name !== undefined) fields.set(name, /value="([^"]*)"/.exec(tag)?.[1] ?? '');
    }
    if (fields.has('login')) fields.set('login', login);
    if (fields.has('password')) fields.set('password', 'x');
    if (answer === 'decline' && page.text.includes('name="abort"')) fields.set('abort', 'yes');
    page = await load(new URL(action, page.address).href, cookies, fields);
    if (fields.has('abort')) return page;
  }
  throw new Error(`the sign-in did not end: ${page.text}`);
}

/** One page, behind its redirects. */
async function load(address: string, cookies: Map<string, string>, form?: URLSearchParams) {
  let url = address;
  let body = form;
  for (let redirects = 0; redirects < PAGE_LIMIT; redirects++) {
    const cookie = Array.from(cookies, ([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { cookie },
      ...(body && { method: 'POST', body }),
    });
    for (const set of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]*)=([^;]*)/.exec(set) ?? [];
      cookies.set(name, value);
    }
    const location = response.headers.get('location');
    if (location === null) return { address: url, text: await response.text() };
    url = new URL(location, url).href;
    body = undefined;
  }
  throw new Error(`too many redirects from ${address}`);
}

/** Without the provider's notes that this configuration is not fit for production. */
export async function withoutOutput(run: () => Promise<void>): Promise<void> {
  const { warn, info } = console;
  Object.assign(console, { warn: () => undefined, info: () => undefined });
  try {
    await run();
  } finally {
    Object.assign(console, { warn, info });
  }
}
