/**
 * The manifests of deploy/kubernetes, without a cluster: each is valid for the schema of its kind,
 * has no field that the schema does not know, and fits the others.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { serveVariables } from '../../src/cli/serve-options.ts';

const FOLDER = new URL('../../../deploy/kubernetes/', import.meta.url);

type Labels = Record<string, string>;

/** What is read here of a container. */
interface Container {
  readonly ports: readonly { name: string }[];
  readonly volumeMounts: readonly { name: string; mountPath: string }[];
  readonly env: readonly { name: string; value: string }[];
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly volumes: readonly { name: string }[];
  readonly terminationGracePeriodSeconds: number;
  readonly topologySpreadConstraints: readonly { labelSelector: { matchLabels: Labels } }[];
}

/** What is read here of the specification of any kind. */
interface Spec {
  selector?: Labels & { readonly matchLabels?: Labels };
  readonly podSelector?: { readonly matchLabels: Labels };
  readonly template?: { readonly metadata: { readonly labels: Labels }; readonly spec: PodSpec };
}

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { name: string; labels?: Labels };
  readonly spec?: Spec;
}

/** What `kubectl kustomize` makes of a folder whose kustomization has resources and labels. */
function render(folder: string): Manifest[] {
  const read = (name: string): string => readFileSync(new URL(folder + name, FOLDER), 'utf8');
  const { apiVersion, kind, resources, labels = [], ...rest } = parse(read('kustomization.yaml'));
  t.strictSame(rest, {}, 'nothing that is not rendered here');
  t.strictSame([apiVersion, kind], ['kustomize.config.k8s.io/v1beta1', 'Kustomization']);
  const manifests = (resources as string[]).flatMap((name) =>
    parseAllDocuments(read(name)).map((document) => document.toJS() as Manifest),
  );
  for (const { pairs, includeSelectors, includeTemplates } of labels) {
    t.ok(includeSelectors && includeTemplates);
    for (const manifest of manifests) addLabels(manifest, pairs);
  }
  return manifests;
}

function addLabels({ metadata, spec }: Manifest, labels: Labels): void {
  metadata.labels = { ...metadata.labels, ...labels };
  const constraints = spec?.template?.spec.topologySpreadConstraints ?? [];
  for (const target of [
    spec?.selector && (spec.selector.matchLabels ?? spec.selector),
    spec?.podSelector?.matchLabels,
    spec?.template?.metadata.labels,
    ...constraints.map(({ labelSelector }) => labelSelector.matchLabels),
  ])
    if (target) Object.assign(target, labels);
}

/** The models of an API version, by kind. */
type Models = Record<string, new (manifest: object) => { validate(): void }>;

const modelsOf: Record<string, () => Promise<object>> = {
  v1: () => import('kubernetes-models/v1'),
  'apps/v1': () => import('kubernetes-models/apps/v1'),
  'policy/v1': () => import('kubernetes-models/policy/v1'),
  'networking.k8s.io/v1': () => import('kubernetes-models/networking.k8s.io/v1'),
  'monitoring.coreos.com/v1': () =>
    import('@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'),
};

/** Throws an error for what is not valid, and returns the paths of fields that are unknown. */
async function validate(manifest: Manifest): Promise<string[]> {
  const { apiVersion, kind } = manifest;
  const models = (await modelsOf[apiVersion]?.()) as Models | undefined;
  const Model = models?.[kind];
  if (!Model) throw new Error(`no model of ${apiVersion} ${kind}`);
  const seen = new Set<string>();
  const model = new Model(manifest);
  model.validate.call(watch(model, '', seen));
  return pathsOf(manifest, '').filter((path) => !seen.has(path));
}

/** Notes which members are read: a validator reads those that its schema has, and all of a map. */
function watch(value: object, path: string, seen: Set<string>): object {
  return new Proxy(value, {
    get(target, name) {
      const member = Reflect.get(target, name);
      if (typeof name === 'symbol' || typeof member === 'function') return member;
      seen.add(`${path}/${name}`);
      return typeof member === 'object' && member !== null
        ? watch(member, `${path}/${name}`, seen)
        : member;
    },
  });
}

function pathsOf(value: unknown, path: string): string[] {
  if (typeof value !== 'object' || value === null) return [path];
  const inner = Object.entries(value).flatMap(([name, member]) =>
    pathsOf(member, `${path}/${name}`),
  );
  return path === '' ? inner : [path, ...inner];
}

const base = render('');
const monitoring = render('monitoring/');
const deployment = base.find(({ kind }) => kind === 'Deployment');
const template = deployment?.spec?.template;
const [container] = template?.spec.containers ?? [];
if (!deployment || !template || !container) throw new Error('no deployment');

t.test('every manifest is valid and has no unknown field', async (t) => {
  for (const manifest of [...base, ...monitoring]) {
    const name = `${manifest.kind} ${manifest.metadata.name}`;
    t.strictSame(await validate(manifest), [], name);
  }
});

t.test('the validation finds a missing and an unknown field', async (t) => {
  const broken = structuredClone(deployment);
  Object.assign(broken.spec?.template?.spec.containers[0] ?? {}, { livenesProbe: {} });
  t.strictSame(await validate(broken), ['/spec/template/spec/containers/0/livenesProbe']);
  delete broken.spec?.selector;
  await t.rejects(validate(broken), /selector/);
});

t.test('selectors find the pods, and ports and volumes exist', async (t) => {
  const selectors = [...base, ...monitoring]
    .filter(({ kind }) => kind !== 'ServiceMonitor')
    .map(({ spec }) => spec?.podSelector ?? spec?.selector)
    .flatMap((selector) => (selector ? [selector.matchLabels ?? selector] : []));
  t.equal(selectors.length, 5);
  for (const selector of selectors) t.strictSame(selector, template.metadata.labels);

  const named = [...base, ...monitoring].flatMap((manifest) =>
    [...JSON.stringify(manifest).matchAll(/"(?:targetPort|port)":"(\w+)"/g)].map(
      ([, name]) => name,
    ),
  );
  t.strictSame(new Set(named), new Set(container.ports.map(({ name }) => name)));
  t.strictSame(
    container.volumeMounts.map(({ name }) => name),
    template.spec.volumes.map(({ name }) => name),
  );
});

t.test('the options exist, and the files that they name are mounted', async (t) => {
  const env = new Map(container.env.map(({ name, value }) => [name, value]));
  const known = serveVariables();
  t.strictSame(
    [...env.keys()].filter((name) => !known.includes(name)),
    [],
  );
  const mounted = container.volumeMounts.map(({ mountPath }) => `${mountPath}/`);
  const files = [...env.values()].flatMap((value) => value.match(/\/etc\/[\w/.]+/g) ?? []);
  t.ok(files.length > 5);
  for (const file of files)
    t.ok(
      mounted.some((path) => file.startsWith(path)),
      file,
    );

  const seconds = (name: string): number => Number.parseInt(env.get(name) ?? '', 10);
  const drain = seconds('PGSSO_DRAIN_DELAY') + seconds('PGSSO_DRAIN_TIMEOUT') + 5;
  t.ok(template.spec.terminationGracePeriodSeconds > drain);
});
