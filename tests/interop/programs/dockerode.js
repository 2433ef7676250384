// What people do with dockerode, a function each: `node dockerode.js NAME`. The daemon is DOCKER_HOST's, the image busybox.
'use strict';
const assert = require('node:assert/strict');
const { PassThrough } = require('node:stream');
const { text } = require('node:stream/consumers');
const Docker = require('dockerode');

const docker = new Docker();
const IMAGE = 'busybox';

const running = async (Cmd, more = {}) => {
  const container = await docker.createContainer({ Image: IMAGE, Cmd, ...more });
  await container.start();
  return container;
};

// The two streams that `stream` has in frames, once it has ended.
const apart = async (stream) => {
  const out = new PassThrough(), err = new PassThrough();
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([text(out), text(err)]);
};

const programs = {
  async run() {
    const out = new PassThrough(), err = new PassThrough();
    const said = [text(out), text(err)];
    const [ended, container] = await docker.run(IMAGE, ['sh', '-c', 'echo out; echo err >&2; exit 3'], [out, err], { Tty: false });
    out.end();
    err.end();
    assert.deepEqual([ended.StatusCode, ...await Promise.all(said)], [3, 'out\n', 'err\n']);
    await container.remove();
    await assert.rejects(container.inspect(), { statusCode: 404 });
  },

  async attach_with_stdin() {
    const container = await docker.createContainer({ Image: IMAGE, Cmd: ['cat'], OpenStdin: true, StdinOnce: true });
    const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const said = apart(stream);
    await container.start();
    stream.end('typed\n');
    assert.deepEqual(await said, ['typed\n', '']);
    assert.equal((await container.wait()).StatusCode, 0);
  },

  async exec() {
    const container = await running(['sleep', '1000']);
    const exec = await container.exec({ Cmd: ['sh', '-c', 'echo $A; echo err >&2; exit 5'], Env: ['A=b'], AttachStdout: true, AttachStderr: true });
    assert.equal((await exec.inspect()).ExitCode, null);
    assert.deepEqual(await apart(await exec.start({})), ['b\n', 'err\n']);
    const { ExitCode, Running } = await exec.inspect();
    assert.deepEqual([ExitCode, Running], [5, false]);
    const piped = await container.exec({ Cmd: ['wc', '-c'], AttachStdin: true, AttachStdout: true });
    const stream = await piped.start({ hijack: true, stdin: true });
    const said = apart(stream);
    stream.end(Buffer.alloc(100_000));
    assert.equal((await said)[0].trim(), '100000');
  },

  async logs() {
    const container = await running(['sh', '-c', 'echo one; echo two >&2; sleep 1000']);
    const stream = await container.logs({ follow: true, stdout: true, stderr: true });
    const out = new PassThrough(), err = new PassThrough();
    docker.modem.demuxStream(stream, out, err);
    assert.equal(String((await out[Symbol.asyncIterator]().next()).value), 'one\n');
    assert.equal(String((await err[Symbol.asyncIterator]().next()).value), 'two\n');
    stream.destroy();
    assert.match(String(await container.logs({ stdout: true, timestamps: true })), /\d{4}-\d\d-\d\dT.*Z one\n/s);
  },

  async archive() {
    const container = await running(['sleep', '1000']);
    const tar = await container.getArchive({ path: '/www/index.html' });
    const other = await running(['sleep', '1000']);
    await other.putArchive(tar, { path: '/tmp' });
    const exec = await other.exec({ Cmd: ['cat', '/tmp/index.html'], AttachStdout: true });
    assert.match((await apart(await exec.start({})))[0], /virtual machine/);
    await assert.rejects(other.getArchive({ path: '/missing' }), { statusCode: 404 });
  },

  async ports() {
    const container = await running(['httpd', '-f', '-h', '/www'], {
      ExposedPorts: { '80/tcp': {} },
      HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] } },
    });
    const [{ HostPort }] = (await container.inspect()).NetworkSettings.Ports['80/tcp'];
    let page;
    for (let tries = 0; !page && tries < 600; tries++) {  // it listens some time after its start
      page = await fetch(`http://127.0.0.1:${HostPort}/`).then((r) => r.text(), () => new Promise((r) => setTimeout(r, 100)));
    }
    assert.match(page, /virtual machine/);
  },

  async networks_and_volumes() {
    const network = await docker.createNetwork({ Name: 'dockerode', Labels: { of: 'dockerode' } });
    const volume = await docker.createVolume({ Name: 'dockerode', Labels: { of: 'dockerode' } });
    const container = await running(['sleep', '1000'], {
      name: 'web', HostConfig: { NetworkMode: 'dockerode', Binds: ['dockerode:/data'] },
    });
    assert.deepEqual((await docker.listContainers({ filters: { volume: ['dockerode'] } })).map((c) => c.Names), [['/web']]);
    const { IPAddress } = (await container.inspect()).NetworkSettings.Networks.dockerode;
    assert.equal((await network.inspect()).Containers[container.id].IPv4Address.split('/')[0], IPAddress);
    await assert.rejects(volume.remove(), { statusCode: 409 });
    await assert.rejects(network.remove(), { statusCode: 403 });
    await container.remove({ force: true });
    await network.remove();
    await volume.remove();
    assert.deepEqual(await docker.listNetworks({ filters: { label: ['of=dockerode'] } }), []);
    assert.deepEqual((await docker.listVolumes({ filters: { label: ['of=dockerode'] } })).Volumes, []);
  },

  async events() {
    const since = Math.floor(Date.now() / 1000) - 1;
    const container = await running(['true'], { Labels: { of: 'dockerode' } });
    await container.wait();
    const stream = await docker.getEvents({ since, filters: { container: [container.id] } });
    const seen = [];
    for await (const chunk of stream) {
      for (const line of String(chunk).trim().split('\n')) seen.push(JSON.parse(line));
      if (seen.some((event) => event.Action === 'die')) break;
    }
    assert.ok(seen.every((event) => event.Actor.Attributes.of === 'dockerode'));
    const actions = seen.map((event) => event.Action);
    assert.deepEqual(actions.filter((action) => ['create', 'start', 'die'].includes(action)), ['create', 'start', 'die']);
  },

  async images() {
    const image = docker.getImage(IMAGE);
    await image.tag({ repo: 'dockerode', tag: '1' });
    assert.equal((await docker.getImage('dockerode:1').inspect()).Id, (await image.inspect()).Id);
    const saved = await docker.getImage('dockerode:1').get();
    const lines = await text(await docker.loadImage(saved));
    assert.match(lines, /Loaded image: dockerode:1/);
    await docker.getImage('dockerode:1').remove();
    await assert.rejects(docker.getImage('dockerode:1').inspect(), { statusCode: 404 });
  },

  async stats_and_processes() {
    const container = await running(['sleep', '1000']);
    const stats = await container.stats({ stream: false });
    assert.ok(stats.memory_stats.usage > 0 && stats.cpu_stats.system_cpu_usage > 0);
    const { Titles, Processes } = await container.top();
    assert.ok(Processes.some((line) => line[Titles.indexOf('CMD')].includes('sleep 1000')));
  },
};

if (process.argv[2]) programs[process.argv[2]]().catch((e) => { console.error(e); process.exitCode = 1; });
else console.log(Object.keys(programs).join('\n'));
