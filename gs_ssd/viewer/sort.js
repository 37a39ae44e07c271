// Depth order, far to near, by a counting sort over 16-bit depths. Runs in a worker, whose source
// is this function's own text: it must not refer to anything outside itself.
function depthSorter(scope) {
  let positions, depths, keys;
  const BINS = 1 << 16;
  const starts = new Uint32Array(BINS);

  function sort(direction, order) {
    const count = positions.length / 3;
    const [dx, dy, dz] = direction;
    let near = Infinity,
      far = -Infinity;
    for (let i = 0, j = 0; i < count; i++, j += 3) {
      const depth = dx * positions[j] + dy * positions[j + 1] + dz * positions[j + 2];
      depths[i] = depth;
      if (depth < near) near = depth;
      if (depth > far) far = depth;
    }
    const scale = far > near ? (BINS - 1) / (far - near) : 0;
    starts.fill(0);
    for (let i = 0; i < count; i++) {
      keys[i] = (far - depths[i]) * scale;
      starts[keys[i]]++;
    }
    for (let bin = 0, sum = 0; bin < BINS; bin++) {
      const size = starts[bin];
      starts[bin] = sum;
      sum += size;
    }
    for (let i = 0; i < count; i++) order[starts[keys[i]]++] = i;
    return order;
  }

  scope.onmessage = ({ data }) => {
    if (data.positions) {
      positions = data.positions;
      depths = new Float32Array(positions.length / 3);
      keys = new Uint16Array(positions.length / 3);
    } else {
      const order = sort(data.direction, data.order);
      scope.postMessage({ order, direction: data.direction }, [order.buffer]);
    }
  };
}

// The worker; or, where a browser refuses one to a page opened from disk, the same code on this
// thread. What is returned sorts when called; its `replace(positions)` gives it other splats.
function startSorter(positions, onorder) {
  const onThisThread = () => {
    const scope = { postMessage: (message) => setTimeout(() => onorder(message), 0) };
    depthSorter(scope);
    scope.onmessage({ data: { positions } });
    return (data) => scope.onmessage({ data });
  };
  let send;
  try {
    const url = URL.createObjectURL(
      new Blob([`(${depthSorter})(self)`], { type: "text/javascript" }),
    );
    const worker = new Worker(url);
    worker.onmessage = ({ data }) => onorder(data);
    worker.onerror = () => {
      send = onThisThread();
      // the worker took the buffer along
      onorder({ order: new Uint32Array(positions.length / 3), direction: null });
    };
    worker.postMessage({ positions });
    send = (data) => worker.postMessage(data, data.order ? [data.order.buffer] : []);
  } catch {
    send = onThisThread();
  }
  const sort = (direction, order) => send({ direction, order });
  sort.replace = (others) => {
    positions = others;
    send({ positions });
  };
  return sort;
}
